"""Sums without an order: numbers are rounded to multiples of 2^-40, and added up exactly, as integers.

One addition turns a float into a whole number of 2^-40. A float64 has 52 bits behind its leading 1. From 2^12 to 2^13
the last of these bits is worth 2^-40, so the floats there are the multiples of 2^-40. If the bits of two neighbours are
read as integers, they differ by 1. Adding 1.5 * 2^12 = 6144 to a number x between -2048 and 2048 gives a float between
2^12 and 2^13. So the sum is rounded to a multiple of 2^-40, and its bits are, as an integer,
(the bits of 6144.0) + (how many times 2^-40 goes into x). Example for x = 0.5:
  (np.float64(0.5) + 6144).view(np.int64) - np.float64(6144).view(np.int64) == 2**39 == 0.5 / 2**-40
"""

import numpy as np

from ddp_numpy.comm import Communicator
from ddp_numpy.nn import Array

GRID_LIMIT = 2.0**11
"""Below it lie, in absolute value, the losses and gradients that add up exactly."""

_IN_CACHE = 32_768  # numbers that are rounded at a time: more go through the slower caches twice
_SHIFT = 1.5 * 2**12
_SHIFT_BITS = int(np.float64(_SHIFT).view(np.int64))


class FloatSum:
    """A vector (n,) that vectors are added to in floating point; its memory may then be summed over ranks."""

    def __init__(self, memory: Array) -> None:
        self._memory, self._terms = memory, 0

    def space(self, scratch: Array) -> Array:
        """Where the next term is best written: the memory itself if it is the first, else scratch (n or more,)."""
        return scratch[: self._memory.size] if self._terms else self._memory

    def add(self, x: Array) -> None:
        """Add x (n,); the first may be the memory itself."""
        if self._terms:
            np.add(self._memory, x, out=self._memory)
        elif x is not self._memory:
            np.copyto(self._memory, x)
        self._terms += 1

    def close(self) -> None:
        """Nothing more is added; what comes next begins a new sum."""
        if not self._terms:
            self._memory.fill(0)
        self._terms = 0


class GridSum:
    """The same on the grid: the memory holds integers, and is a sum in floating point after `total`."""

    def __init__(self, memory: Array) -> None:
        """memory (n,), of int64."""
        self._memory, self._scratch = memory, np.empty(min(memory.size, _IN_CACHE))
        self.terms = 0
        """How many were added on this rank."""

    def add(self, x: Array) -> None:
        """Add x (n,) of floats that are all on the grid: see `fits`."""
        for start in range(0, x.size, _IN_CACHE):
            part = slice(start, start + _IN_CACHE)
            memory, scratch = self._memory[part], self._scratch[: x[part].size]
            shifted = scratch if self.terms else memory.view(np.float64)
            np.copyto(shifted, x[part])  # on its own, as a sum of mixed types converts piece by piece
            shifted += _SHIFT
            if self.terms:
                memory += shifted.view(np.int64)
        self.terms += 1

    def close(self) -> None:
        """Nothing more is added; what comes next begins a new sum."""
        if not self.terms:
            self._memory.fill(0)
        self.terms = 0

    def total(self, terms: int, out: Array) -> None:
        """After `close`, write the sum of the ranks' terms, so many in all, to out (n,), and use the memory up."""
        # Each term has brought a shift along, and one is to stay. Integers wrap around: any number of them goes away.
        if terms != 1:
            self._memory -= np.array((terms - 1) * _SHIFT_BITS % 2**64, np.uint64).view(np.int64)
        sums = self._memory.view(np.float64)
        sums -= _SHIFT
        np.copyto(out, sums, casting="same_kind")


def fits(x: Array) -> bool:
    """Whether all of x (n,) have a place on the grid: false if one is not a number."""
    # The quick look at all is the usual case: no number is larger than the norm of all.
    return bool(np.dot(x, x) < GRID_LIMIT**2 or np.abs(x).max(initial=0) < GRID_LIMIT)


def sum_rows(comm: Communicator, partial: Array) -> Array:
    """Sums (n,) of the rows of each rank -> their sum (n,), on every rank. Collective."""
    total = partial.copy()
    comm.allreduce_(total)
    return total


def sum_rows_exactly(comm: Communicator, partial: Array) -> Array:
    """Sums (shards, n) of each shard of all ranks -> their sum (n,), in their dtype, on every rank. Collective.

    Not a number where a shard's sum has no place on the grid: then the loss is none either, and it is named.
    """
    fitting = np.abs(partial) < GRID_LIMIT
    shifted = np.where(fitting, partial, 0).astype(np.float64) + _SHIFT
    totals = np.stack([(shifted.view(np.int64) - _SHIFT_BITS).sum(axis=0), (~fitting).sum(axis=0)])
    comm.allreduce_(totals)
    return np.where(totals[1] == 0, totals[0] * 2.0**-40, np.nan).astype(partial.dtype)
