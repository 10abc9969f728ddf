"""To be run under mpirun: trains on a table that is larger than memory may be, and prints what that costs.

The table holds the bundled digits again and again, each time in another order. Printed are the seconds that reading it
took, the most memory that the ranks had at once, besides what the system keeps of files, and the images a second: with
features in the file, and with those of the same rows in memory, in turn. With --leave, the same of all rows in the file
while so little memory is free that the system can keep only a part of it.
"""

import ctypes
import dataclasses
import mmap
import os
import random
import re
import statistics
import threading
import time
from pathlib import Path

import click
import numpy as np

from ddp_numpy import SGD, Communicator, Dense, ReLU, Sequential, Trainer, load_data, world
from ddp_numpy.base.memory import free_bytes
from ddp_numpy.data import Dataset, Reader, epoch_order
from ddp_numpy.data import mapped as mapping
from ddp_numpy.data.mapped import MappedRows


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="The table, made unless it is there.")
@click.option("--gb", type=float, default=20.0, show_default=True, help="The size of a table that is made.")
@click.option("--rows", type=int, default=2_000_000, show_default=True, help="Of those that train, to be compared.")
@click.option("--batch-size", type=int, default=64, show_default=True)
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Of each turn.")
@click.option("--turns", type=int, default=9, show_default=True)
@click.option("--leave", type=float, default=0.0, help="GB of free memory; the others are locked, which needs rights.")
def main(data: Path, gb: float, rows: int, batch_size: int, seconds: float, turns: int, leave: float) -> None:
    """Make, read, train, print."""
    comm = world()
    with comm.together():
        if comm.rank == 0 and not data.exists():
            make(data, gb)
    peak = Peak()
    start = time.perf_counter()
    train, _ = load_data(str(data), comm, map_above=0, tell=click.echo if comm.rank == 0 else lambda line: None)
    comm.agree(None)
    seconds_read, most = time.perf_counter() - start, comm.broadcast(comm.gather(peak.bytes))
    assert isinstance(train.features, MappedRows)
    if comm.rank == 0:
        assert most is not None
        click.echo(f"{train.features.rows_of_file:,} rows, {train.features.nbytes / 1e9:.2f} GB of features to train")
        click.echo(
            f"read in {seconds_read:.1f} s; all ranks had at most {sum(most) / 1e9:.2f} GB, mapped files left out"
        )
    chosen = np.sort(np.random.default_rng(0).choice(len(train), min(rows, len(train)), replace=False))
    mapped = dataclasses.replace(train, features=train.features.chosen(chosen), labels=train.labels[chosen])
    memory = dataclasses.replace(mapped, features=comm.share(np.asarray(mapped.features) if comm.rank == 0 else None))
    compare({"in the file": mapped, "in memory": memory}, batch_size, seconds, turns, comm)
    if leave:
        del mapped, memory
        locked = lock(free_bytes() - leave * 1e9) if comm.rank == 0 else None
        comm.agree(None)
        for name, staying in ((f"{leave:g} GB free, read as if all could stay", np.inf), (f"{leave:g} GB free", 0.75)):
            mapping._STAYING = staying
            again = dataclasses.replace(train, features=train.features.chosen(np.arange(len(train))))
            compare({name: again}, batch_size, seconds, turns, comm)
        del locked


def lock(size: float) -> mmap.mmap:
    """So many bytes of memory that nothing else gets, as long as the object lives."""
    memory, library = mmap.mmap(-1, round(size)), ctypes.CDLL(None, use_errno=True)
    if library.mlock(ctypes.byref(ctypes.c_char.from_buffer(memory)), ctypes.c_size_t(len(memory))):
        raise click.ClickException(f"can't lock memory: {os.strerror(ctypes.get_errno())}")
    return memory


def make(path: Path, gb: float) -> None:
    """Write a table of about so many GB."""
    data, _ = load_data("digits", world())
    rows = zip(data.labels.tolist(), np.asarray(data.features).tolist(), strict=True)
    lines = [f"{label},{','.join(map(str, row))}\n".encode() for label, row in rows]
    shuffled = random.Random(0)
    with open(path, "wb") as file:
        file.write(f"label,{','.join(f'pixel{number}' for number in range(data.features.shape[1]))}\n".encode())
        while file.tell() < gb * 1e9:
            shuffled.shuffle(lines)
            file.write(b"".join(lines))


class Peak:
    """The most memory that this process has had since, without that of files: looked at every 10 ms."""

    def __init__(self) -> None:
        self.bytes = 0
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            parts = re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB", status, re.MULTILINE)
            self.bytes = max(self.bytes, 1024 * sum(map(int, parts)))
            time.sleep(0.01)


def compare(datasets: dict[str, Dataset], batch_size: int, seconds: float, turns: int, comm: Communicator) -> None:
    """Train on each of them in turn, and print medians of images a second, and of the first's over the second's."""
    first, *_ = datasets.values()
    layers = Dense(128), ReLU(), Dense(64), ReLU(), Dense(first.classes)
    trainer = Trainer(Sequential(*layers), SGD(0.01), comm, batch_size=batch_size)
    trainer.prepare(first)
    readers = {name: Reader(data, np.float32) for name, data in datasets.items()}
    order, at = epoch_order(len(first), 1, 1), 0
    found: dict[str, list[float]] = {name: [] for name in datasets}
    for turn in range(turns + 1):  # of which the first warms up
        for name in list(datasets) if turn % 2 else reversed(list(datasets)):
            steps, start = 0, time.perf_counter()
            with comm.training():
                while not comm.broadcast(time.perf_counter() - start > seconds):
                    for _ in range(50):
                        trainer.train_step(readers[name], order[at : at + batch_size])
                        at = (at + batch_size) % (len(order) - batch_size)
                    steps += 50
            found[name].append(steps * batch_size / (time.perf_counter() - start))
    if len(found) == 2:
        found["ratio"] = [one / other for one, other in zip(*found.values(), strict=True)]
    for name, rates in found.items() if comm.rank == 0 else ():
        median, least, most = (of(rates[1:]) for of in (statistics.median, min, max))
        click.echo(f"{name}: {median:,.5g} ({least:,.5g} to {most:,.5g})")


if __name__ == "__main__":
    main()
