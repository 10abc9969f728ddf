"""Notes when a rank begins and ends its steps, and in them the update and each collective call.

The rest of a step is computing: reading, forward, backward, products of gradients, and all that Python does between
them. The times are those of this rank's clock, and become rank 0's by `Clock`.
"""

import contextlib
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ddp_numpy.comm.communicator import Communicator
from ddp_numpy.comm.whereabouts import Among
from ddp_numpy.nn import Array
from ddp_numpy.optim import Optimizer
from ddp_numpy.training.trainer import Trainer

Times: TypeAlias = "array[float]"


class Clock:
    """From times of this rank's clock to times of rank 0's. Made before a recording, and closed behind it."""

    def __init__(self, comm: Communicator) -> None:
        """Collective."""
        self._comm = comm
        self._first, self.error = comm.clock_offset()
        self._begin, self.drift = time.perf_counter(), 0.0

    def close(self) -> None:
        """Find out how the offset has changed meanwhile. Collective."""
        last, error = self._comm.clock_offset()
        self.drift = (last - self._first) / (time.perf_counter() - self._begin)
        self.error = max(self.error, error)

    def of_rank_0(self, times: Array) -> Array:
        """The same moments by rank 0's clock, as if the offset had changed evenly."""
        return times + self._first + self.drift * (times - self._begin)


class Record(NamedTuple):
    """What a rank has noted of some steps (s,) that came one after the other, or in several runs: all in seconds."""

    steps: Array
    """(s, 2): begin and end."""
    updates: Array
    """(u, 2): begin and end of each update of some runs of the parameters."""
    step_of_update: Array
    """(u,): in which step each was made."""
    calls: Array
    """(c, 2) or (c, 3): begin of each collective call, when all ranks had met before it if they were to, and end."""
    among: Array
    """(c,): which ranks each call makes wait."""
    step_of_call: Array
    """(c,): in which step each was made."""

    @property
    def update(self) -> Array:
        """(s,): how long it made the update."""
        return np.bincount(self.step_of_update, self.updates[:, 1] - self.updates[:, 0], len(self.steps))


class Recorder:
    """Records blocks of a trainer's steps.

    block: so many steps. meeting: all ranks meet before each call.
    """

    def __init__(self, trainer: Trainer, block: int, meeting: bool = False) -> None:
        self._trainer, self._block, self._meeting = trainer, block, meeting
        # Of numbers, not of objects: those would lie all over the caches, and be in the way of the training.
        self._steps, self._update, self._calls = (array("d") for _ in range(3))
        self._among = array("b")
        self._optimizer: Any = _TimedOptimizer(trainer.optimizer, self._update)

    def begin(self, among: Among) -> None:
        """A collective call begins."""
        note, now = self._calls.append, time.perf_counter
        note(now())
        self._among.append(among)
        if self._meeting:
            self._trainer.comm.meet()
            note(now())

    def end(self) -> None:
        """It has ended."""
        self._calls.append(time.perf_counter())

    def steps(self, make: Callable[[], None]) -> None:
        """Record a block of steps, each of which `make` makes."""
        note, now = self._steps.append, time.perf_counter
        with self._attached():
            note(now())
            for _ in range(self._block):
                make()
                note(now())

    @contextlib.contextmanager
    def _attached(self) -> Iterator[None]:
        """A block in which the trainer's steps are noted."""
        trainer, here = self._trainer, self._trainer.comm.here
        trainer.optimizer, optimizer = self._optimizer, trainer.optimizer
        here.recorder = self
        try:
            yield
        finally:
            here.recorder = None
            trainer.optimizer = optimizer

    @property
    def calls_a_step(self) -> float:
        """How many collective calls a step has had."""
        return len(self._among) / (len(self._steps) * self._block / (self._block + 1))

    def record(self, clock: Clock) -> Record:
        """All that was noted, by rank 0's clock."""

        def moments(times: Times, columns: int) -> Array:
            return clock.of_rank_0(np.array(times).reshape(-1, columns))

        bounds = moments(self._steps, self._block + 1)
        steps = np.stack([bounds[:, :-1].ravel(), bounds[:, 1:].ravel()], axis=1)
        calls = moments(self._calls, 2 + self._meeting)

        def number(times: Array) -> Array:
            return np.searchsorted(steps[:, 0], times, "right") - 1

        updates = moments(self._update, 2)
        among = np.array(self._among, np.int8)
        return Record(steps, updates, number(updates[:, 0]), calls, among, number(calls[:, 0]))


class _TimedOptimizer:
    """Does as another optimizer does, and notes when an update begins, and when it is made.

    An object in its place: methods put into it would make Python slower at finding all it has.
    """

    def __init__(self, optimizer: Optimizer, times: Times) -> None:
        self._optimizer, self._times = optimizer, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)

    def step(self, params: Array, grads: Array, runs: Sequence[slice]) -> None:
        note, now = self._times.append, time.perf_counter
        note(now())
        self._optimizer.step(params, grads, runs)
        note(now())
