"""To be run under mpirun: loads data, trains one epoch, and prints as JSON the times and the memory in use.

seconds: how long loading took on the slowest rank; first_step: the time of day when the first step was done; bytes: the
size of the features; pss: the sum of the ranks' proportional set sizes.
"""

import json
import re
import time
from pathlib import Path

import click

from ddp_numpy import SGD, Dense, ReLU, Sequential, Trainer, load_data, world


@click.command()
@click.option("--data", required=True)
def main(data: str) -> None:
    """Load, train, measure."""
    comm = world()
    comm.agree(None)  # collective, so that all ranks begin together
    start = time.perf_counter()
    train, valid = load_data(data, comm)
    comm.agree(None)
    seconds = time.perf_counter() - start
    trainer = Trainer(Sequential(Dense(128), ReLU(), Dense(64), ReLU(), Dense(train.classes)), SGD(0.01), comm)
    first_step: list[float] = []
    for _ in trainer.fit(train, valid, epochs=1, on_step=lambda _: first_step.append(time.time())):
        pss = comm.gather(_pss())
    if comm.rank == 0:
        found = {"seconds": seconds, "first_step": first_step[0], "pss": sum(pss or [])}
        print(json.dumps(found | {"bytes": train.features.nbytes + valid.features.nbytes}))


def _pss() -> float:
    """This process's memory in bytes, where each page is divided by the number of processes that share it."""
    found = re.search(r"^Pss: +(\d+) kB", Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * float(found[1])


if __name__ == "__main__":
    main()
