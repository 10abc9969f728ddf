"""Memory that is allocated once and used again for every batch."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt


class RowBuffer:
    """Memory for the rows of a batch. New memory is allocated only when a larger batch comes."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, fill: float | None = None) -> None:
        """shape: of one row; fill: the value that new memory is filled with; by default it is left as it is."""
        self._memory: npt.NDArray[Any] = np.empty((0, *shape), dtype)
        self._fill = fill
        self._counts: tuple[int, ...] = (0,)
        self._rows = self._memory

    def __getstate__(self) -> tuple[tuple[int, ...], str, float | None]:
        """What a copy needs: it makes memory of its own."""
        return self._memory.shape[1:], self._memory.dtype.str, self._fill

    def __setstate__(self, state: tuple[tuple[int, ...], str, float | None]) -> None:
        self.__init__(*state)  # type: ignore[misc]

    def lend(self, rows: npt.NDArray[Any]) -> None:
        """Let `rows` return this array (*counts, *shape), of this dtype, until it is taken back."""
        self._counts, self._rows = rows.shape[: rows.ndim - self._memory.ndim + 1], rows

    def take_back(self) -> None:
        """Let `rows` return memory of its own again."""
        self._counts, self._rows = (0,), self._memory[:0]

    def rows(self, *counts: int) -> npt.NDArray[Any]:
        """An array (*counts, *shape): rows(64) is 64 rows, rows(4, 16) is 4 shards of 16 rows.

        Its values are not cleared: they are what the last user of this memory wrote.
        """
        if counts != self._counts:
            n, shape = math.prod(counts), self._memory.shape[1:]
            if n > len(self._memory):
                self._memory = np.empty((n, *shape), self._memory.dtype)
                if self._fill is not None:
                    self._memory.fill(self._fill)
            self._counts, self._rows = counts, self._memory[:n].reshape(*counts, *shape)
        return self._rows
