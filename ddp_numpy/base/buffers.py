"""Memory that is made once and used again for every batch."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class RowBuffer:
    """Memory for the rows of a batch, made anew only when a larger batch comes."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, fill: float | None = None) -> None:
        """shape: of one row; fill: what new memory holds, where that matters."""
        self._memory: npt.NDArray[Any] = np.empty((0, *shape), dtype)
        self._fill = fill
        self._counts: tuple[int, ...] = (0,)
        self._rows = self._memory

    def rows(self, *counts: int) -> npt.NDArray[Any]:
        """An array (*counts, *shape) of rows, or of shards of rows, with the values it had before."""
        if counts != self._counts:
            n, shape = math.prod(counts), self._memory.shape[1:]
            if n > len(self._memory):
                self._memory = np.empty((n, *shape), self._memory.dtype)
                if self._fill is not None:
                    self._memory.fill(self._fill)
            self._counts, self._rows = counts, self._memory[:n].reshape(*counts, *shape)
        return self._rows
