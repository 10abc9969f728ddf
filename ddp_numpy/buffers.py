"""Memory that is made once and used again for every batch."""

from typing import Any

import numpy as np
import numpy.typing as npt


class RowBuffer:
    """Memory for the rows of a batch, made anew only when a larger batch comes."""

    def __init__(self, shape: tuple[int, ...], dtype: npt.DTypeLike, fill: float | None = None) -> None:
        """shape: of one row; fill: what new memory holds, where that matters."""
        self._memory: npt.NDArray[Any] = np.empty((0, *shape), dtype)
        self._fill = fill

    def rows(self, n: int) -> npt.NDArray[Any]:
        """An array (n, *shape) with the values it had before."""
        if n > len(self._memory):
            self._memory = np.empty((n, *self._memory.shape[1:]), self._memory.dtype)
            if self._fill is not None:
                self._memory.fill(self._fill)
        return self._memory[:n]
