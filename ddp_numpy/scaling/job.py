"""What each rank of a launch runs: steps of training, timed one by one. Rank 0 prints the sample as JSON."""

import json
import os
import platform
import sys
import time
from collections.abc import Iterator

import click
import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.cli import run
from ddp_numpy.comm import world
from ddp_numpy.data import Dataset, Reader, batches, epoch_order
from ddp_numpy.making import make_trainer, read_data
from ddp_numpy.nn import Array
from ddp_numpy.runs.circumstances import circumstances
from ddp_numpy.settings import Settings
from ddp_numpy.training.trainer import Trainer

_ALONE = "--alone"
_WARM_UP_STEPS, _WARM_UP_SECONDS = 5, 0.3  # both at least
_MOST_STEPS = 50_000  # of a sample


@click.command("scaling.job")
@click.option("--settings", required=True, help="The options of training, as JSON.")
@click.option("--seconds", type=float, required=True, help="About how long to measure.")
@click.option("--target-loss", type=float, help="Then train anew until the validation loss is as low.")
@click.option(_ALONE, is_flag=True, help="Do not start MPI.")
@click.pass_context
def main(context: click.Context, /, settings: str, seconds: float, target_loss: float | None, alone: bool) -> None:
    """Train on whole batches, and print how long each step took, and where the ranks were."""
    made, comm = Settings.of(json.loads(settings)), context.obj
    if not alone:
        comm = world(made.training.comm, made.training.stall_timeout)
    train, valid = read_data(made, comm)
    trainer = make_trainer(made, train, comm)
    step_seconds = timed_steps(trainer, train, seconds)
    facts = circumstances(comm, comm.hosts(), 0, 0) | {"kernel": platform.release(), "exchange": str(trainer.exchange)}
    facts["ranks_on"] = comm.gather([platform.node(), sorted(os.sched_getaffinity(0))])
    if target_loss is not None:
        facts |= until_loss(make_trainer(made, train, comm), train, valid, target_loss, made.training.epochs)
    if comm.rank == 0:
        print(json.dumps({"step_seconds": step_seconds.round(9).tolist(), "facts": facts}), flush=True)


def timed_steps(trainer: Trainer, train: Dataset, seconds: float) -> Array:
    """How long each step takes, as this rank sees it (steps,), for about so many seconds in all. Collective.

    The first steps are left out: they make memory and fill caches. Raises InputError if there is no whole batch.
    """
    comm = trainer.comm
    with comm.together():
        if len(train) < trainer.batch_size:
            raise InputError(f"--batch-size {trainer.batch_size}: there are only {len(train):,} rows to train on")
    reader, numbers = Reader(train, trainer.model.dtype), whole_batches(len(train), trainer.batch_size)
    with comm.training():
        start, warm = time.perf_counter(), 0
        while comm.broadcast(warm < _WARM_UP_STEPS or time.perf_counter() - start < _WARM_UP_SECONDS):
            trainer.train_step(reader, next(numbers))
            warm += 1
        a_step = (time.perf_counter() - start) / warm
        times = np.empty(1 + comm.broadcast(min(max(1, round(seconds / a_step)), _MOST_STEPS)))
        times[0] = time.perf_counter()
        for step in range(1, len(times)):
            trainer.train_step(reader, next(numbers))
            times[step] = time.perf_counter()
    return np.diff(times)


def until_loss(trainer: Trainer, train: Dataset, valid: Dataset, loss: float, epochs: int) -> dict[str, float | None]:
    """How many seconds and epochs it takes to a validation loss as low, evaluations included. Collective.

    None if it is not reached in so many epochs.
    """
    start = time.perf_counter()
    for epoch in trainer.fit(train, valid, epochs):
        if trainer.comm.broadcast(epoch.valid_loss <= loss):
            return {"seconds_to_loss": time.perf_counter() - start, "epochs_to_loss": epoch.number}
    return {"seconds_to_loss": None, "epochs_to_loss": None}


def whole_batches(rows: int, batch_size: int) -> Iterator[Array]:
    """The batches of epoch 1, 2, 3 … without the last batch of an epoch if it is short."""
    epoch = 0
    while True:
        epoch += 1
        yield from (batch for batch in batches(epoch_order(rows, 1, epoch), batch_size) if len(batch) == batch_size)


if __name__ == "__main__":
    run(main, alone=_ALONE in sys.argv[1:])
