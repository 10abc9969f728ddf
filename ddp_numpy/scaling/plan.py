"""What a sweep measures, and in which order."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ddp_numpy.base.errors import InputError

Mode = Literal["strong", "weak"]


@dataclass(frozen=True, order=True)
class Point:
    """What is launched: so many ranks with so large a global batch."""

    ranks: int
    batch_size: int
    alone: bool = False
    """One process, which does not even start MPI."""

    def __str__(self) -> str:
        who = "one process" if self.alone else f"{self.ranks} rank{'s' * (self.ranks > 1)}"
        return f"{who}, batches of {self.batch_size}"


@dataclass(frozen=True)
class Sweep:
    """Strong scaling: a global batch, whatever the number of ranks. Weak: so many rows for each rank."""

    ranks: tuple[int, ...]
    modes: tuple[Mode, ...]
    batch_size: int
    """Of the global batch if scaling is strong; for each rank if it is weak."""
    repeat: int
    """How often each point is launched."""

    def __post_init__(self) -> None:
        """Raises InputError for a batch that is smaller than the number of ranks."""
        if "strong" in self.modes and max(self.ranks) > self.batch_size:
            raise InputError(
                f"--ranks: {max(self.ranks)} ranks can't share a batch of {self.batch_size} rows; raise "
                "--batch-size, or take --mode weak"
            )

    def batch(self, mode: Mode, ranks: int) -> int:
        """The global batch."""
        return self.batch_size * (ranks if mode == "weak" else 1)

    def points(self) -> list[Point]:
        """Each point once: one process, and each number of ranks, for one rank too."""
        found = {Point(1, self.batch_size, alone=True), Point(1, self.batch_size)}
        found |= {Point(ranks, self.batch(mode, ranks)) for mode in self.modes for ranks in self.ranks}
        return sorted(found)

    def launches(self, seed: int) -> list[tuple[int, Point]]:
        """(repetition, point), in order: each repetition has all points in an order of its own.

        So a drift of the machine's speed hits all points alike, and none is always measured behind the same other one.
        """
        draw = random.Random(seed)
        return [(number, point) for number in range(self.repeat) for point in _shuffled(self.points(), draw)]


def _shuffled(points: Sequence[Point], draw: random.Random) -> list[Point]:
    return draw.sample(points, len(points))
