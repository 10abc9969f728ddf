"""How the ranks add up what is counted of the rows."""

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ddp_numpy.exchange.grid import GRID_LIMIT
from ddp_numpy.nn import Array

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
        loss, right_rows, rows, beyond = counts
        total = self._multiples(losses)
        if not total < GRID_LIMIT / self._grid:  # true if one is not a number; no loss is below 0
            fits = losses < GRID_LIMIT
            beyond += len(losses) - np.count_nonzero(fits)
            total = self._multiples(np.where(fits, losses, 0))
        return loss + int(total), right_rows + np.count_nonzero(right), rows + len(right), beyond

    def _multiples(self, losses: Array) -> float:
        """How many times 2^-30 goes into them, each rounded. Below 2^41 each, 4,096 of them add up exactly."""
        return float(np.add.reduce(np.rint(np.multiply(losses, 1 / self._grid, dtype=np.float64))))

    def figures(self, sums: npt.NDArray[Any]) -> Array:
        """The loss is not a number if it was beyond the limit in some row."""
        loss, right, rows, beyond = sums.tolist()
        return np.array((math.nan if beyond else loss * self._grid, right, rows))
