"""The gradient of a node's rows, which the ranks of the node share out: in one of two ways."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ddp_numpy.comm import Node
from ddp_numpy.exchange.ordered_sum import OrderedSum, memory_for_sum
from ddp_numpy.exchange.products import Block, Products, size
from ddp_numpy.exchange.trials import Trials
from ddp_numpy.nn import Array

Filled = list[tuple[Block, Array]]
"""Blocks and their gradients."""


class SharedFactors:
    """Each rank makes the gradient of its own blocks, from the factors of all the node's rows."""

    def __init__(
        self, of_ranks: Sequence[Sequence[Block]], rank: int, trials: Trials, chunks: int, dtype: npt.DTypeLike
    ) -> None:
        """of_ranks: the blocks of each rank. chunks: how many chunks the node has at most."""
        own, place = _share(of_ranks, rank)
        self.all = np.zeros(sum(sum(map(size, blocks)) for blocks in of_ranks), dtype)
        """Of all blocks, one behind the other, of which this rank's are filled."""
        self.own = self.all[place]
        """Of this rank's blocks."""
        self._products = Products(own, trials)
        self.filled = _parts(own, self.own)
        """What this rank has in the end."""
        self.own_parts = [part for _, part in self.filled]
        """What this rank adds up, block by block."""
        self._sum = OrderedSum([self.own, *(np.empty_like(self.own) for _ in range(memory_for_sum(chunks) - 1))])

    def add(self, number: int, rows: slice) -> None:
        """Add the gradient of the chunk of this number: of these rows, of those whose factors are in memory."""
        _add_chunk(self._sum, self._products, number, rows)

    def sum_of_ranks(self, spans: Sequence[Sequence[slice]]) -> OrderedSum:
        """What is added up for this rank's blocks, of all chunks of the node.

        spans: of each rank, which chunks it has added up if it has chunks of its own. Collective, of the node.
        """
        return self._sum

    def close(self, total: Array) -> None:
        """The total (n,) for this rank's blocks is known; the next step may begin. Collective, of the node."""
        self._sum.clear()


class OwnChunks:
    """Each rank makes the gradient of all blocks from chunks of its own, and adds up those of its blocks."""

    def __init__(self, of_ranks: Sequence[Sequence[Block]], node: Node, trials: Trials, sums: Array) -> None:
        """sums (ranks, partial sums, numbers or more): the node's memory, as many as `memory_for_sum` says."""
        own, self._place = _share(of_ranks, node.rank)
        everything = [block for blocks in of_ranks for block in blocks]
        self._node, self._products = node, Products(everything, trials)
        self._of_ranks = sums[: node.size, :, : self._products.numbers]
        self.all, *more = self._of_ranks[node.rank]
        self.own = self.all[self._place]
        self.filled = _parts(everything, self.all)
        self.own_parts = [part for _, part in _parts(own, self.own)]
        self._sum, self._total = OrderedSum([self.all, *more]), OrderedSum()

    def add(self, number: int, rows: slice) -> None:
        _add_chunk(self._sum, self._products, number, rows)

    def sum_of_ranks(self, spans: Sequence[Sequence[slice]]) -> OrderedSum:
        self._sum.clear()
        self._node.wait()
        for sums, of_rank in zip(self._of_ranks, spans, strict=True):
            for chunks, span in zip(sums, of_rank, strict=False):
                self._total.add(span, chunks[self._place])
        return self._total

    def close(self, total: Array) -> None:
        self._total.clear()
        for sums in self._of_ranks:
            if not np.may_share_memory(sums[0, self._place], total):
                np.copyto(sums[0, self._place], total)
        self._node.wait()


def _share(of_ranks: Sequence[Sequence[Block]], rank: int) -> tuple[Sequence[Block], slice]:
    """A rank's blocks, and their place in the gradient of all blocks."""
    start = sum(size(block) for blocks in of_ranks[:rank] for block in blocks)
    return of_ranks[rank], slice(start, start + sum(map(size, of_ranks[rank])))


def _parts(blocks: Sequence[Block], gradient: Array) -> Filled:
    """Each block with its part of the gradient of all of them."""
    found, start = [], 0
    for block in blocks:
        found.append((block, gradient[start : start + size(block)]))
        start += size(block)
    return found


def _add_chunk(total: OrderedSum, products: Products, number: int, rows: slice) -> None:
    term = total.space()
    products.write(rows, term)
    total.add(slice(number, number + 1), term)
