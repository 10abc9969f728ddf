"""What rows are called in messages: by their numbers in the data, from 1."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt


class RowNumbers:
    """The numbers of rows that have others before them, which are counted only if a message needs it."""

    def __init__(self, before: int | Callable[[], int], kept: npt.NDArray[np.intp] | None = None) -> None:
        """before: how many lie before; kept: the places (m,), among all that follow, of the rows meant; None: all."""
        self._before, self.kept = before, kept

    def __getitem__(self, position: int) -> int:
        before = self._before if isinstance(self._before, int) else self._before()
        return before + 1 + (position if self.kept is None else int(self.kept[position]))

    def some(self, places: npt.NDArray[np.intp]) -> "RowNumbers":
        """The numbers of the rows at these places (m,) alone."""
        return RowNumbers(self._before, places)


def numbered(position: int, rows: Any | None) -> int:
    """The number, for people, of the row at this position. rows: RowNumbers, or all numbers (n,); by default from 1."""
    return position + 1 if rows is None else int(rows[position])
