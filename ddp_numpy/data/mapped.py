"""Rows of numbers that stay in a file: only those that are read come to memory."""

import functools
import math
import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.memory import free_bytes

Array = npt.NDArray[Any]
_ROWS = 4096  # of a block
_STAYING = 0.75  # of the free memory, for a file that stays there


@dataclass(frozen=True)
class Make:
    """Makes features of the columns that a file has."""

    function: Callable[[Array], Array]
    """(m, k) -> (m, d)."""
    width: int
    """d."""

    def __call__(self, rows: Array) -> Array:
        return self.function(rows)


class MappedRows:
    """Some rows of a file, in an order of their own: stands for an array (n, d) that may be larger than memory.

    The system keeps in memory what was read of the file lately, as long as nothing else needs that memory. All ranks of
    a node that map the file have this in common.
    """

    def __init__(self, path: Path, places: Array, make: "Make | None" = None) -> None:
        """path: of an .npy file with an array (N, k); places (n,): which of its rows these are.

        make: makes rows of d features of rows as the file has them; None: they are the same. Raises OSError or
        ValueError for what is no such file.
        """
        self.path, self.places, self._make = path, places, make
        self._all = _mapped(path).view(np.ndarray)
        # Of a file that can't stay in memory, the system would read 900 KB for a row of 784 bytes: what lies beside it,
        # too. Single pages, asked for before they are needed, make that 40 times as fast; but a file that can stay, a
        # quarter slower (LOG: tables larger than memory).
        self._random = _mapped(path) if self._all.nbytes > _STAYING * free_bytes() else None
        if self._random is not None:
            _advise(self._random, mmap.MADV_RANDOM)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, d)."""
        return len(self.places), self._make.width if self._make else self._all.shape[1]

    @property
    def dtype(self) -> Any:
        """Of the numbers."""
        return self._all.dtype

    @property
    def nbytes(self) -> int:
        """Of all rows."""
        return math.prod(self.shape) * self._all.itemsize

    @property
    def rows_of_file(self) -> int:
        """N."""
        return len(self._all)

    def __len__(self) -> int:
        return len(self.places)

    def chosen(self, rows: Array) -> "MappedRows":
        """Of these rows, by their numbers (m,), or whether each is one of them (n,)."""
        return MappedRows(self.path, self.places[rows], self._make)

    def made_by(self, make: "Make") -> "MappedRows":
        """What this makes of the same rows."""
        return MappedRows(self.path, self.places, make)

    @property
    def recipe(self) -> "tuple[Path, Make | None]":
        """What MappedRows takes beside the places."""
        return self.path, self._make

    def take(self, rows: Array, out: Array) -> None:
        """Write the rows of these numbers (m,) to out (m, d)."""
        places = self.places[rows]
        source = self._all
        if self._random is not None:
            self._read_ahead(places)
            source = self._random
        if self._make:
            out[...] = self._make(source[places])
        else:
            np.take(source, places, axis=0, out=out, mode="clip")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """All rows, in memory: for NumPy's functions."""
        return self.block(slice(None)).astype(dtype or self.dtype, copy=False)

    def block(self, rows: slice) -> Array:
        """These rows, in memory (m, d)."""
        found: Array = self._all[self.places[rows]]
        return self._make(found) if self._make else found

    def some(self, rows: Array | slice, features: slice | int) -> Array:
        """Some of the features of these rows, in memory (m, k), or one of them (m,)."""
        if self._make:
            return self._make(self._all[self.places[rows]])[:, features]
        found: Array = self._all[self.places[rows], features]
        return found

    def _read_ahead(self, places: Array) -> None:
        """Tell the system all rows that are needed, so that the disk reads them side by side."""
        assert self._random is not None
        width = self._all.shape[1] * self._all.itemsize
        for place in places.tolist():
            start = self._random.offset + place * width
            first = start - start % mmap.PAGESIZE
            _advise(self._random, mmap.MADV_WILLNEED, first, start + width - first)

    @functools.cached_property
    def extremes(self) -> tuple[Array, Array]:
        """The least and the largest value of each feature (d,)."""
        edges = np.array([(block.min(axis=0), block.max(axis=0)) for block in blocks(self)])
        return edges[:, 0].min(axis=0), edges[:, 1].max(axis=0)


def _mapped(path: Path) -> "np.memmap[Any, Any]":
    """The array of rows of an .npy file. Raises OSError or ValueError for what is no such file."""
    found = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(found, np.memmap) or found.ndim != 2:
        raise ValueError(f"{path}: is no array of rows")
    return found


def _advise(mapped: "np.memmap[Any, Any]", advice: int, *where: int) -> None:
    """Tell the system how a mapped file will be read."""
    mapped._mmap.madvise(advice, *where)  # type: ignore[attr-defined]


Features: TypeAlias = Array | MappedRows
"""(n, d)."""


def blocks(features: Features) -> Iterator[Array]:
    """All rows in their order, in blocks of some thousand."""
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        yield features.block(rows) if isinstance(features, MappedRows) else features[rows]


def chosen(features: Features, rows: Array) -> Features:
    """Of these rows, by their numbers, or whether each is one of them."""
    return features.chosen(rows) if isinstance(features, MappedRows) else features[rows]


def one_feature(features: Features, number: int) -> Array:
    """The numbers (n,) of one feature, in memory."""
    return features.some(slice(None), number) if isinstance(features, MappedRows) else features[:, number]


def extremes(features: Features) -> tuple[Array, Array]:
    """The least and the largest value of each feature (d,)."""
    if isinstance(features, MappedRows):
        return features.extremes
    return features.min(axis=0), features.max(axis=0)
