"""Whether a gradient is surely finite, known from its factors alone."""

from typing import Any

import numpy as np

from ddp_numpy.exchange.factor_memory import FactorPiece


class NormBound:
    """Of this rank's rows of a batch.

    No sum of products is larger than both factors' norms, multiplied (Cauchy-Schwarz). So if all ranks' norms are small
    enough the gradient is finite, and nobody needs to look at it, and to wait for what others find.
    """

    def __init__(self, dtype: Any, ranks: int) -> None:
        """dtype: of the gradient. ranks: whose sums it is made of."""
        self._limit = float(np.finfo(dtype).max) / 1024 / ranks
        self._X, self._dY = 0.0, 0.0
        """Sums of squares."""

    def add(self, piece: FactorPiece, largest: float) -> None:
        """Add the factors of a piece; of the input rows only the largest number is looked at."""
        self._X += piece.features * largest**2
        for vector in piece.X_vectors:
            self._X += float(np.dot(vector, vector))
        for vector in piece.dY_vectors:
            self._dY += float(np.dot(vector, vector))

    def close(self) -> bool:
        """Whether the gradient is surely finite, as far as these rows go; what comes next begins a new batch."""
        squares, self._X, self._dY = self._X + self._dY, 0.0, 0.0
        return squares < self._limit  # not so, too, if they are not a number
