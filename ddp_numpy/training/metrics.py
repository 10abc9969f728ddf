"""What is counted of rows, how ranks add it up, and what an epoch came to."""

import dataclasses
import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ddp_numpy.nn import Array


class Tally(Protocol):
    """Counts of rows as numbers that add up: over pieces of a batch, over steps and over ranks."""

    width: int
    """How many numbers they are."""
    dtype: type[np.generic]
    """In which they add up."""

    def count(self, losses: Array, right: Array) -> Array:
        """The numbers (width,) of rows with these losses (n,), in nats, of which some are classified right (n,)."""
        ...

    def figures(self, sums: Array) -> Array:
        """Loss, right rows and rows (3,), from numbers (width,) that were added up."""
        ...


class FloatTally:
    """Loss, right rows and rows in floating point."""

    width = 3
    dtype: type[np.generic] = np.float64

    def count(self, losses: Array, right: Array) -> Array:
        """(3,)."""
        return np.array((losses.sum(), np.count_nonzero(right), len(right)), np.float64)

    def figures(self, sums: Array) -> Array:
        """The same numbers."""
        return sums


class GridTally:
    """The loss as a whole number of 2^-30, so that it adds up to the same bits in any order.

    Four million losses below the limit of 2048 add up to less than 2^63 of these.
    """

    width = 4
    dtype: type[np.generic] = np.int64
    _limit, _grid = 2.0**11, 2.0**-30

    def count(self, losses: Array, right: Array) -> npt.NDArray[np.int64]:
        """The loss in multiples of 2^-30, right rows, rows, and how many rows have a loss beyond the limit (4,)."""
        fits = losses < self._limit
        multiples = np.rint(np.where(fits, losses, 0) / np.float64(self._grid)).astype(np.int64)
        rows = len(losses)
        return np.array((multiples.sum(), np.count_nonzero(right), rows, rows - np.count_nonzero(fits)), np.int64)

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
