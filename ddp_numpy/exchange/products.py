"""Parts of the gradient, as products of factors."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ddp_numpy.exchange.factor_memory import CutLayer
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

    def write(self, rows: slice, gradient: Array) -> None:
        """Overwrite the gradient (numbers,) with that of these rows, of those whose factors are in memory."""
        n = rows.stop - rows.start
        if n not in self._merged:
            self._merged[n] = self._merge(n)
        for product in self._merged[n]:
            product.write(rows, gradient[product.place])

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
