"""A rank's part of the gradient, as products of factors: made chunk by chunk, added up, and looked at."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ddp_numpy.comm import Node
from ddp_numpy.exchange.factor_memory import CutLayer
from ddp_numpy.exchange.grid import FloatSum, GridSum, fits
from ddp_numpy.exchange.trials import Trials
from ddp_numpy.nn import Array

Block = tuple[CutLayer, slice]
"""A layer, and some of its units."""


def size(block: Block) -> int:
    """How many parameters a block has."""
    cut, units = block
    return cut.numbers * int(units.stop - units.start)


def run(block: Block) -> slice:
    """Where a block's parameters lie in the flat vector."""
    cut, units = block
    return slice(cut.place.start + units.start * cut.numbers, cut.place.start + units.stop * cut.numbers)


class Product(NamedTuple):
    """What is multiplied at once."""

    cut: CutLayer
    units: slice
    place: slice
    """In the gradient of all blocks."""

    def write(self, rows: slice, gradient: Array) -> None:
        """Overwrite the gradient (n,) with sums over these rows, of those whose factors are in memory."""
        self.cut.layer.write_units(self.units, self.cut.X[rows], self.cut.dY[rows], gradient)


class Products:
    """The gradient of some blocks, which lie one behind the other in it."""

    def __init__(self, blocks: Sequence[Block], trials: Trials) -> None:
        self.blocks, self._trials = blocks, trials
        sizes = [size(block) for block in blocks]
        self.places = [slice(sum(sizes[:n]), sum(sizes[: n + 1])) for n in range(len(sizes))]
        """Of each block, in the gradient."""
        self.numbers = sum(sizes)
        """How many numbers the gradient has."""
        self._merged: dict[int, list[Product]] = {}

    def of(self, rows: slice) -> list[Product]:
        """What is multiplied for so many rows."""
        n = rows.stop - rows.start
        if n not in self._merged:
            self._merged[n] = self._merge(n)
        return self._merged[n]

    def _merge(self, rows: int) -> list[Product]:
        """The blocks; those of a layer as one if that changes no bit of products of so many rows."""
        found: list[Product] = []
        products = map(Product, (cut for cut, _ in self.blocks), (units for _, units in self.blocks), self.places)
        for _, group in itertools.groupby(products, lambda product: id(product.cut)):
            own = list(group)
            cut, units = own[0].cut, [product.units for product in own]
            if self._trials.as_one_block(cut.layer, units, rows):
                place = slice(own[0].place.start, own[-1].place.stop)
                own = [Product(cut, slice(units[0].start, units[-1].stop), place)]
            found += own
        return found


class Chunks(Protocol):
    """A sum of the gradients of several chunks of rows."""

    def add(self, rows: slice) -> None:
        """Add the gradient of these rows, of those whose factors are in memory."""
        ...

    def close(self) -> None:
        """Nothing more is added in this step."""
        ...


class FloatChunks:
    """A sum in floating point."""

    def __init__(self, products: Products, gradient: Array) -> None:
        """gradient (n,): where the sum is."""
        self._products, self._sum, self._term = products, FloatSum(gradient), np.empty_like(gradient)

    def add(self, rows: slice) -> None:
        term = self._sum.space(self._term)
        for product in self._products.of(rows):
            product.write(rows, term[product.place])
        self._sum.add(term)

    def close(self) -> None:
        self._sum.close()


class GridChunks:
    """A sum on the grid, and for each block how many chunks had no place there."""

    def __init__(self, products: Products, memory: Array, dtype: npt.DTypeLike) -> None:
        """memory (n + blocks,): of int64, where the sum is, and behind it the counts. dtype: of the gradients."""
        self._products, self._term = products, np.empty(products.numbers, dtype)
        self._sum, self._beyond = GridSum(memory[: products.numbers]), memory[products.numbers :]

    def add(self, rows: slice) -> None:
        if not self._sum.terms:
            self._beyond.fill(0)
        for product in self._products.of(rows):
            product.write(rows, self._term[product.place])
        self._sum.add(self._term)
        if not fits(self._term):
            self._beyond += [not fits(self._term[place]) for place in self._products.places]

    def close(self) -> None:
        if not self._sum.terms:
            self._beyond.fill(0)
        self._sum.close()


class OwnGradient:
    """The gradient of this rank's blocks, summed over the rows of all ranks."""

    def __init__(self, products: Products, vector: Array, exact: bool, riders: int) -> None:
        """vector: memory for the gradient and, behind it, for the riders. exact: chunks are added up on the grid."""
        n, self._blocks, self.places = products.numbers, len(products.blocks), products.places
        self.gradient = vector[:n]
        """(n,), after `finish`."""
        # On the grid one behind the other: the gradient, for each block a count of what is beyond it, the riders.
        self.integers = np.zeros(n + self._blocks + riders, np.int64) if exact else None
        self._summed = vector[: n + riders] if self.integers is None else self.integers
        self._sum = None if self.integers is None else GridSum(self.integers[:n])
        self.riders = self._summed[self._summed.size - riders :]
        """Numbers (k,) that are summed over nodes together with the gradient."""

    def parts(self) -> list[Array]:
        """Views of the blocks' gradients."""
        return [self.gradient[place] for place in self.places]

    def take(self, sums: Array, start: int, counts: int) -> None:
        """Add up what each rank of the node has made of its own rows, of all blocks.

        sums (ranks, all numbers + all blocks): as GridChunks writes it. start, counts: where this rank's begin.
        """
        assert self.integers is not None
        n, total = self.gradient.size, self.integers
        for theirs, mine in (
            (slice(start, start + n), total[:n]),
            (slice(counts, counts + self._blocks), total[n : n + self._blocks]),
        ):
            np.copyto(mine, sums[0, theirs])
            for of_rank in sums[1:]:
                np.add(mine, of_rank[theirs], out=mine)

    def sum_nodes(self, node: Node) -> None:
        """Add up gradient and riders over the nodes. Collective."""
        if node.rank < node.partners:
            node.sum_(self._summed)

    def finish(self, chunks: int) -> None:
        """From the sum of all chunks, so many on all nodes, to the gradient."""
        if self._sum is not None:
            self._sum.total(chunks, self.gradient)

    def unfit(self) -> Array:
        """For each block (blocks,), whether a number of it could not be summed, or is not finite."""
        n, fine = self.gradient.size, np.ones(self._blocks, np.bool_)
        if self.integers is not None:
            fine = self.integers[n : n + self._blocks] == 0
        of_one = _is_finite if self.integers is None else fits
        if not of_one(self.gradient):  # the usual case is one look at all
            fine &= [of_one(part) for part in self.parts()]
        return ~fine


def _is_finite(x: Array) -> bool:
    return bool(np.isfinite(x).all())
