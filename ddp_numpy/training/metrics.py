"""What is counted of the rows, how the ranks add it up, and the figures of an epoch."""

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ddp_numpy.nn import Array

GRID_LIMIT = 2.0**11
"""Below it lie, in absolute value, the losses and gradients that add up exactly."""

Counts = tuple[float, ...]
"""Numbers that add up, as a tally makes them."""


class Tally(Protocol):
    """Counts of rows as numbers that add up: over pieces of a batch, over steps and over ranks."""

    nothing: Counts
    """The counts of no rows."""
    dtype: type[np.generic]
    """Of arrays in which they add up."""

    def add(self, counts: Counts, losses: Array, right: Array) -> Counts:
        """The counts with more rows: their losses (n,), in nats, and which are classified right (n,)."""
        ...

    def figures(self, sums: Array) -> Array:
        """Loss, right rows and rows (3,), from counts as an array that was added up."""
        ...


class FloatTally:
    """Loss, right rows and rows in floating point."""

    nothing: Counts = (0.0, 0, 0)
    dtype: type[np.generic] = np.float64

    def add(self, counts: Counts, losses: Array, right: Array) -> Counts:
        """Loss, right rows, rows."""
        return counts[0] + float(np.add.reduce(losses)), counts[1] + np.count_nonzero(right), counts[2] + len(right)

    def figures(self, sums: Array) -> Array:
        """The same numbers."""
        return sums


class GridTally:
    """The loss as a whole number of 2^-30, so that it adds up to the same bits in any order.

    Four million losses below the limit of 2048 add up to less than 2^63 of these.
    """

    nothing: Counts = (0, 0, 0, 0)
    dtype: type[np.generic] = np.int64
    _grid = 2.0**-30

    def add(self, counts: Counts, losses: Array, right: Array) -> Counts:
        """The loss in multiples of 2^-30, right rows, rows, and how many rows have a loss beyond the limit."""
        fits = losses < GRID_LIMIT
        multiples = np.rint(np.where(fits, losses, 0) / np.float64(self._grid)).astype(np.int64)
        loss, right_rows, rows, beyond = counts
        return (
            loss + int(multiples.sum()),
            right_rows + np.count_nonzero(right),
            rows + len(losses),
            beyond + len(losses) - np.count_nonzero(fits),
        )

    def figures(self, sums: npt.NDArray[Any]) -> Array:
        """The loss is not a number if it was beyond the limit in some row."""
        loss, right, rows, beyond = sums.tolist()
        return np.array((math.nan if beyond else loss * self._grid, right, rows))


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch, over all rows and all ranks. Losses are means per row, in nats."""

    number: int
    train_loss: float
    """Mean over the epoch's rows of the loss each had in its own step, before that step's update."""
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    images_per_second: float
    """Training rows of all ranks over the time of the training steps alone."""
    seconds: float
    """Training and evaluation."""

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no word for a number that is not finite but null."""
        values: dict[str, float] = dataclasses.asdict(self)
        return {"epoch": values.pop("number")} | {k: v if math.isfinite(v) else None for k, v in values.items()}
