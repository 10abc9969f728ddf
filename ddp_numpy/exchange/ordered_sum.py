"""Sums that have the same bits however their terms are shared out: pairs are added, then pairs of pairs, and so on.

Floating point rounds each addition, so the bits of a sum depend on what is added to what. Here the numbers of the terms
decide it: terms 0 and 1 are added, 2 and 3, then these two sums (Higham, SIAM J. Sci. Comput. 14, 1993, "pairwise
summation"; it rounds less than adding one after another, too). Whoever has neighbouring terms adds up what belongs
together, and passes on a few partial sums.
"""

from collections.abc import Sequence

import numpy as np

from ddp_numpy.nn import Array


class OrderedSum:
    """A sum of vectors (n,) that have numbers. Each sum takes the memory of the term on its left."""

    def __init__(self, memory: Sequence[Array] = ()) -> None:
        """memory: vectors (n,) that terms may be written to, as many as `memory_for_sum` says."""
        self.memory = memory
        self.spans: list[slice] = []
        """Of the terms in each partial sum, the numbers."""
        self.sums: list[Array] = []
        """The partial sums."""

    def space(self) -> Array:
        """A vector of the memory in which the next term may be written."""
        return self.memory[len(self.sums)]

    def add(self, span: slice, term: Array) -> None:
        """Add the sum of the terms of these numbers, and use its memory; terms come in their order, some may lack."""
        self.spans.append(span)
        self.sums.append(term)
        while _belong_together(self.spans):
            self._join()

    def total(self) -> Array:
        """Add up all partial sums: (n,). Nothing is 0."""
        if not self.sums:
            self.memory[0].fill(0)
            return self.memory[0]
        while len(self.sums) > 1:
            self._join()
        return self.sums[0]

    def write_total(self, out: Array) -> None:
        """Write the sum of all partial sums, at least one, to out (n,), and begin a new sum."""
        while len(self.sums) > 2:
            self._join()
        if len(self.sums) == 2:
            np.add(self.sums[0], self.sums[1], out=out)
        else:
            np.copyto(out, self.sums[0])
        self.clear()

    def clear(self) -> None:
        """Begin a new sum."""
        self.spans.clear()
        self.sums.clear()

    def _join(self) -> None:
        right, left = self.sums.pop(), self.sums[-1]
        np.add(left, right, out=left)
        stop = self.spans.pop().stop
        self.spans[-1] = slice(self.spans[-1].start, stop)


def partial_sums(start: int, stop: int) -> list[slice]:
    """Which partial sums are left of terms with these numbers."""
    found, nothing = OrderedSum(), np.empty(0)
    for number in range(start, stop):
        found.add(slice(number, number + 1), nothing)
    return found.spans


def memory_for_sum(terms: int) -> int:
    """How many vectors it takes to add up so many neighbouring terms, whatever their first number is."""
    return min(terms, 2 * terms.bit_length() - 1)


def _belong_together(spans: list[slice]) -> bool:
    """Whether the last two of these are the halves of a sum of 2^k terms, of which the first is a multiple of 2^k."""
    if len(spans) < 2:
        return False
    left, right = spans[-2:]
    terms = right.stop - left.start
    halves = left.stop == right.start and left.stop - left.start == right.stop - right.start
    return bool(halves and left.start % terms == 0)
