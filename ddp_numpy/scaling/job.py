"""What each rank of a launch runs: steps of training, timed one by one. Rank 0 prints the sample as JSON.

To explain the times, some steps are recorded: see recording.py. Blocks of plain and of recorded steps take turns, so
that the times of plain ones have nothing of it, and its price shows.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.cli import run
from ddp_numpy.comm import Communicator, SingleProcess, world
from ddp_numpy.data import Dataset, Reader, batches, epoch_order, share
from ddp_numpy.making import make_trainer, read_data
from ddp_numpy.nn import Array
from ddp_numpy.probe import SIZES, allreduce_times
from ddp_numpy.runs.circumstances import circumstances
from ddp_numpy.scaling.parts import met_parts_of, parts_of
from ddp_numpy.scaling.recording import Clock, Recorder
from ddp_numpy.scaling.trace import steps_within_limit
from ddp_numpy.scaling.trace import write as write_trace
from ddp_numpy.settings import Settings
from ddp_numpy.training.trainer import Trainer

_ALONE = "--alone"
_WARM_UP_STEPS, _WARM_UP_SECONDS = 5, 0.3  # both at least
_MOST_STEPS = 50_000  # of a sample
_BLOCK_SECONDS = 0.02  # about, of steps between two changes of the way they are measured
_MOST_RECORDED = 4_000  # steps: more would need much memory on rank 0
_MEETINGS = 100
_TRACED_STEPS = 100  # at most
_SUM_REPEATS = 3


@click.command("scaling.job")
@click.option("--settings", required=True, help="The options of training, as JSON.")
@click.option("--seconds", type=float, required=True, help="About how long to measure.")
@click.option("--target-loss", type=float, help="Then train anew until the validation loss is as low.")
@click.option("--explain", is_flag=True, help="Record where the time goes, too.")
@click.option("--trace", type=click.Path(path_type=Path), help="Only record some steps, and write them to this file.")
@click.option("--beside", is_flag=True, help="Each process trains for itself, beside the others.")
@click.option(_ALONE, is_flag=True, help="Do not start MPI.")
@click.pass_context
def main(context: click.Context, /, settings: str, seconds: float, target_loss: float | None, explain: bool,
         trace: Path | None, beside: bool, alone: bool) -> None:  # fmt: skip
    """Train on whole batches, and print how long each step took, and where the ranks were."""
    made, comm = Settings.of(json.loads(settings)), context.obj
    if not alone:
        comm = world(made.training.comm, made.training.stall_timeout)
    train, valid = read_data(made, comm)
    trainer = make_trainer(made, train, SingleProcess() if beside else comm)
    steps = Steps(trainer, train)
    with comm.training():
        a_step = steps.warm_up(comm)
        if trace is not None:
            steps.traced(trace)
            return
        if beside:
            step_seconds, parts = steps.beside(comm, seconds)
        elif explain:
            step_seconds, parts = steps.explained(round(seconds / a_step), a_step)
        else:
            step_seconds, parts = steps.timed(round(seconds / a_step)), None
    facts = circumstances(comm, comm.rank_hosts(), 0, 0) | {
        "kernel": platform.release(),
        "exchange": str(trainer.exchange),
    }
    facts["ranks_on"] = comm.gather({"host": platform.node(), "cpus": sorted(os.sched_getaffinity(0))})
    exchange = trainer.exchange
    facts |= {"rows": len(train), "summed_bytes": exchange.summed_bytes, "gathered_bytes": exchange.gathered_bytes}
    if explain and comm.size > 1 and not beside:
        nbytes = max(exchange.summed_bytes, trainer.model.params.nbytes)
        facts["sum_seconds"] = allreduce_times(comm, [*(size for size in SIZES if size < nbytes), nbytes], _SUM_REPEATS)
    if target_loss is not None and not beside:
        facts |= until_loss(make_trainer(made, train, comm), train, valid, target_loss, made.training.epochs)
    if comm.rank == 0:
        print(json.dumps({"step_seconds": step_seconds.round(9).tolist(), "parts": parts, "facts": facts}), flush=True)


class Steps:
    """The steps of a trainer on whole batches, to be measured. Each method is collective."""

    def __init__(self, trainer: Trainer, train: Dataset) -> None:
        """Raises InputError if there is no whole batch."""
        with trainer.comm.together():
            if len(train) < trainer.batch_size:
                raise InputError(f"--batch-size {trainer.batch_size}: there are only {len(train):,} rows to train on")
        reader, numbers = Reader(train, trainer.model.dtype), whole_batches(len(train), trainer.batch_size)
        self._trainer = trainer
        self._make: Callable[[], None] = lambda: trainer.train_step(reader, next(numbers))

    def warm_up(self, comm: Communicator) -> float:
        """The first steps, which make memory and fill caches. Returns about how many seconds one takes.

        comm: of all processes that are measured.
        """
        start, made = time.perf_counter(), 0
        while comm.broadcast(made < _WARM_UP_STEPS or time.perf_counter() - start < _WARM_UP_SECONDS):
            self._make()
            made += 1
        return comm.broadcast((time.perf_counter() - start) / made)

    def timed(self, count: int) -> Array:
        """How long each of so many steps takes, as this rank sees it (steps,)."""
        times = np.empty(1 + min(max(1, count), _MOST_STEPS))
        times[0] = time.perf_counter()
        for step in range(1, len(times)):
            self._make()
            times[step] = time.perf_counter()
        return np.diff(times)

    def beside(self, comm: Communicator, seconds: float) -> tuple[Array, dict[str, Any] | None]:
        """The same for so many seconds, in which the processes of comm train beside each other, without a word."""
        comm.meet()
        times, end = [time.perf_counter()], time.perf_counter() + seconds
        while times[-1] < end and len(times) <= _MOST_STEPS:
            self._make()
            times.append(time.perf_counter())
        step_seconds = np.diff(times)
        means = comm.gather(float(step_seconds.mean()))
        return step_seconds, None if means is None else {"seconds": means}

    def explained(self, count: int, a_step: float) -> tuple[Array, dict[str, Any] | None]:
        """The same of half of about so many steps; of the others it says on rank 0 where their time went.

        Half of these have barriers. a_step: about the seconds of one.
        """
        trainer, comm = self._trainer, self._trainer.comm
        block = max(1, min(round(_BLOCK_SECONDS / a_step), count // 8))
        rounds = max(2, min(round(count / (4 * block)), _MOST_RECORDED // block))
        clock = Clock(comm)
        recorder, meeting = (Recorder(trainer, block, meeting) for meeting in (False, True))
        plain, price = [], []
        for _ in range(rounds):
            around = [self.timed(block)]
            start = time.perf_counter()
            recorder.steps(self._make)
            recorded = time.perf_counter() - start
            around.append(self.timed(block))
            meeting.steps(self._make)
            plain += around
            price.append(2 * recorded / float(np.sum(around)))
        if (more := count // 2 - 2 * block * rounds) > 0:  # of many steps, not as many are recorded
            plain.append(self.timed(more))
        a_meeting = meeting_seconds(comm)
        clock.close()
        mine = share(trainer.batch_size, comm.rank, comm.size, trainer.exchange.micro_rows or 1)
        own = recorder.record(clock), meeting.record(clock), platform.node(), clock.error, abs(clock.drift)
        gathered = comm.gather((*own, mine.stop - mine.start))
        if gathered is None:
            return np.concatenate(plain), None
        records, met, hosts, errors, drifts, rows = zip(*gathered, strict=True)
        parts = parts_of(records, hosts) | {
            "met": met_parts_of(met, a_meeting),
            "meeting": a_meeting,
            "rows": rows,
            "price": price,
            "clock_error": max(errors),
            "clock_drift": max(drifts),
        }
        return np.concatenate(plain), parts

    def traced(self, path: Path) -> None:
        """Record some steps of all ranks, and have rank 0 write them to a file. Raises InputError if it can't."""
        trainer, comm = self._trainer, self._trainer.comm
        clock, first = Clock(comm), Recorder(trainer, 1)
        first.steps(self._make)
        with comm.together():  # how many calls a step has shows in one
            count = min(_TRACED_STEPS, steps_within_limit(comm.size, first.calls_a_step))
        recorder = Recorder(trainer, count)
        recorder.steps(self._make)
        clock.close()
        gathered = comm.gather((recorder.record(clock), platform.node(), clock.error))
        with comm.together():
            if gathered is not None:
                records, hosts, errors = zip(*gathered, strict=True)
                write_trace(path, records, hosts, max(errors))


def meeting_seconds(comm: Communicator) -> float:
    """How long it takes all ranks to meet if all are there: the median. Collective."""
    times = [time.perf_counter()]
    for _ in range(_MEETINGS):
        comm.meet()
        times.append(time.perf_counter())
    return float(np.median(np.diff(times)))


def until_loss(trainer: Trainer, train: Dataset, valid: Dataset, loss: float, epochs: int) -> dict[str, float | None]:
    """How many seconds and epochs it takes to a validation loss as low, evaluations included. Collective.

    None if it is not reached in so many epochs.
    """
    start = time.perf_counter()
    for epoch in trainer.fit(train, valid, epochs):
        if trainer.comm.broadcast(epoch.valid_loss is not None and epoch.valid_loss <= loss):
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
