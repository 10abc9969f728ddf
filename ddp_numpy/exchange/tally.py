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

    loss_unit: float
    """A power of two in which losses are counted: that of the loss, see SoftmaxCrossEntropy."""

    def add(self, counts: Counts, losses: Array, scores: Array) -> Counts:
        """The counts with more rows: their losses (n,) and scores (n,), as a Loss returns them."""
        ...

    def figures(self, sums: Array) -> Array:
        """Loss, score and rows (3,), from counts as an array that was added up."""
        ...


class FloatTally:
    """Loss, score and rows in floating point, in which no unit is too small or too large."""

    loss_unit = 1.0
    nothing: Counts = (0.0, 0.0, 0)
    dtype: type[np.generic] = np.float64

    def add(self, counts: Counts, losses: Array, scores: Array) -> Counts:
        """Loss, score, rows."""
        score = np.count_nonzero(scores) if scores.dtype == np.bool_ else float(np.add.reduce(scores))
        return counts[0] + float(np.add.reduce(losses)), counts[1] + score, counts[2] + len(losses)

    def figures(self, sums: Array) -> Array:
        """The same numbers."""
        return sums


class GridTally:
    """Loss and score as whole numbers of 2^-30 units, so that they add up to the same bits in any order.

    Four million losses below the limit of 2048 units add up to less than 2^63 of these.
    """

    loss_unit = 1.0
    nothing: Counts = (0, 0, 0, 0)
    dtype: type[np.generic] = np.int64
    _grid = 2.0**-30

    def add(self, counts: Counts, losses: Array, scores: Array) -> Counts:
        """Loss and score in multiples of 2^-30, rows, and how many losses and scores are beyond the limit."""
        loss, score, rows, beyond = counts
        multiples, beyond_limit = self._multiples(losses, self.loss_unit)
        if scores.dtype == np.bool_:
            more, none = int(np.count_nonzero(scores)) << 30, 0
        else:
            more, none = self._multiples(scores, 1.0)
        return loss + multiples, score + more, rows + len(losses), beyond + beyond_limit + none

    def _multiples(self, values: Array, unit: float) -> tuple[int, int]:
        """How many times 2^-30 units go into those below the limit, each rounded; and how many are not below it.

        Below 2^41 times each, 4,096 of them add up exactly. No value is below 0.
        """
        grid, limit = self._grid * unit, GRID_LIMIT * unit
        total, beyond = self._sum(values, grid), 0
        if not total < limit / grid:  # true if one is not a number
            fits = values < limit
            beyond = len(values) - int(np.count_nonzero(fits))
            total = self._sum(np.where(fits, values, 0), grid)
        return int(total), beyond

    @staticmethod
    def _sum(values: Array, grid: float) -> float:
        return float(np.add.reduce(np.rint(np.multiply(values, 1 / grid, dtype=np.float64))))

    def figures(self, sums: npt.NDArray[Any]) -> Array:
        """The loss is not a number if something was beyond the limit in some row."""
        loss, score, rows, beyond = sums.tolist()
        return np.array((math.nan if beyond else loss * self._grid * self.loss_unit, score * self._grid, rows))
