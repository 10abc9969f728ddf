"""What a sweep measures, and in which order."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ddp_numpy.base.errors import InputError

Mode = Literal["strong", "weak"]
Kind = Literal["alone", "beside", "ranks"]


@dataclass(frozen=True, order=True)
class Point:
    """What is launched: so many processes with so large a global batch."""

    ranks: int
    batch_size: int
    kind: Kind = "ranks"
    """alone: one process, which does not even start MPI; beside: processes that train beside each other, each for
    itself, on its share of the batch; ranks: those of a job."""

    @property
    def process_batch_size(self) -> int:
        """The rows of a step of one process if it trains for itself, else the global batch."""
        return -(-self.batch_size // self.ranks) if self.kind == "beside" else self.batch_size

    @property
    def who(self) -> str:
        """What trains, for people."""
        if self.kind == "beside":
            return f"{self.ranks} processes, each for itself"
        return "one process" if self.kind == "alone" else f"{self.ranks} rank{'s' * (self.ranks > 1)}"

    def __str__(self) -> str:
        return f"{self.who}, batches of {self.process_batch_size}"


@dataclass(frozen=True)
class Sweep:
    """Strong scaling: a global batch, whatever the number of ranks. Weak: so many rows for each rank."""

    ranks: tuple[int, ...]
    modes: tuple[Mode, ...]
    batch_size: int
    """Of the global batch if scaling is strong; for each rank if it is weak."""
    repeat: int
    """How often each point is launched."""
    explain: bool = False
    """Whether to measure, too, what explains efficiency: single processes with the share of a rank."""
    predict: tuple[int, ...] = ()
    """Numbers of ranks to predict or simulate, for which one process with the share of a rank is measured."""

    def __post_init__(self) -> None:
        """Raises InputError for a batch that is smaller than the number of ranks."""
        most = max(*self.ranks, *self.predict, 1)
        option = "--ranks" if most in self.ranks else "--predict or --simulate"
        if "strong" in self.modes and most > self.batch_size:
            raise InputError(
                f"{option}: {most} ranks can't share a batch of {self.batch_size} rows; raise "
                "--batch-size, or take --mode weak"
            )

    def batch(self, mode: Mode, ranks: int) -> int:
        """The global batch."""
        return self.batch_size * (ranks if mode == "weak" else 1)

    def points(self) -> list[Point]:
        """Each point once: one process, and each number of ranks, for one rank too; and what explains them."""
        found = {self.alone(self.batch_size), Point(1, self.batch_size)}
        for mode in self.modes:
            for ranks in self.ranks:
                point = Point(ranks, self.batch(mode, ranks))
                found.add(point)
                if self.explain and ranks > 1:
                    found |= {self.alone(self.beside(point).process_batch_size), self.beside(point)}
            found |= {self.alone(-(-self.batch(mode, ranks) // ranks)) for ranks in self.predict}
        return sorted(found)

    def alone(self, batch_size: int) -> Point:
        """One process."""
        return Point(1, batch_size, "alone")

    def beside(self, point: Point) -> Point:
        """As many processes as a job has ranks, each for itself with the share of one."""
        return Point(point.ranks, point.batch_size, "beside")

    def launches(self, seed: int) -> list[tuple[int, Point]]:
        """(repetition, point), in order: each repetition has all points in an order of its own.

        So a drift of the machine's speed hits all points alike, and none is always measured behind the same other one.
        """
        draw = random.Random(seed)
        return [(number, point) for number in range(self.repeat) for point in _shuffled(self.points(), draw)]


def _shuffled(points: Sequence[Point], draw: random.Random) -> list[Point]:
    return draw.sample(points, len(points))
