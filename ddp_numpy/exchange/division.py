"""Who does what: which rank takes which rows of a batch, and which run of the parameters. Pure functions.

Ranks are numbered node by node here: the ranks of node 0, of node 1 and so on.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ddp_numpy.comm import Node
from ddp_numpy.data import pieces, share
from ddp_numpy.exchange.ordered_sum import partial_sums

BLOCK_NUMBERS = 6_250
"""How many parameters a block has, about: few, so that any number of ranks has equal shares."""
_TILE_UNITS = 12
"""A block begins at a multiple of so many units.

A product takes 4, 6 or 12 units at a time, and adds up those that are left over in another order. So blocks that begin
elsewhere have other bits than one product of all of them, which is quicker (LOG: borders of blocks).
"""
MOST_BLOCKS = 64
"""Of a layer."""
SHARED_ROWS = 128
"""Up to so many input rows are written once for all ranks of a node. Of more, each rank reads what it needs."""
WHOLE_ROWS = 128
"""Up to so many rows are one chunk, if nodes may gather them."""
ROUND_ROWS = 2048
"""The most rows whose factors a node holds at a time, if it takes a batch chunk by chunk."""


class Alone(Node):
    """A rank that holds its own rows alone, among others that do the same."""

    def __init__(self, number: int, ranks: int) -> None:
        self.index, self.sizes = number, (1,) * ranks


@dataclass(frozen=True)
class Round:
    """What a rank does with rows whose factors its node holds at the same time."""

    rows: slice
    """Those of the batch that the node holds."""
    pieces: list[slice]
    """Those that this rank takes through the layers, a piece at a time; at least an empty one."""
    chunks: list[slice]
    """Those that are multiplied at once."""


def chunk_rows(batch_size: int, unit: int, few: bool) -> int:
    """How many rows a chunk has, in whole units: a half of the batch up to 256 rows, a quarter of it up to 512.

    Larger chunks are quicker, and smaller ones are more, for more ranks. few: the factors are few enough to be gathered
    on all nodes; then a small batch is one chunk.
    """
    if few and batch_size <= WHOLE_ROWS:
        rows = batch_size
    else:
        rows = max(min(-(-batch_size // 2), 256), min(-(-batch_size // 4), 512))
    return -(-rows // unit) * unit


def chunk_sums(rows: slice, chunk: int) -> list[slice]:
    """Of these rows' chunks, the numbers of those that are added up; the first row begins a chunk, if there is one."""
    first = rows.start // chunk
    return partial_sums(first, first + -(-(rows.stop - rows.start) // chunk))


def whole_batch(rows: int, node: Node, place: int, unit: int, most: int | None, chunk: int | None) -> Round:
    """A batch of so many rows, of which each node holds all.

    place: of this rank among the node's, 0 for the first rows; unit: rows that one rank takes together; most: the rows
    of a piece; chunk: those of a chunk, None: all.
    """
    mine = share(rows, node.first + place, sum(node.sizes), unit)
    return Round(slice(0, rows), pieces(mine, most), pieces(slice(0, rows), chunk))


def by_nodes(
    rows: int, node: Node, place: int, unit: int, most: int | None, chunk: int | None, round_rows: int
) -> list[Round]:
    """A batch of which each node holds its own rows, in rounds of so many; as many rounds on each node.

    chunk: rows of a chunk, a whole number of units that one node takes together; None: a round is one chunk.
    """
    ranges = [node_rows(rows, node.sizes, index, chunk or 1) for index in range(len(node.sizes))]
    mine, rounds = ranges[node.index], []
    for number in range(max(1, *(-(-(part.stop - part.start) // round_rows) for part in ranges))):
        start = min(mine.start + number * round_rows, mine.stop)
        held = slice(start, min(start + round_rows, mine.stop))
        own = share(held.stop - held.start, place, node.size, unit)
        own = slice(start + own.start, start + own.stop)
        chunks = [part for part in pieces(held, chunk) if part.stop > part.start] if chunk else [held]
        rounds.append(Round(held, pieces(own, most), chunks))
    return rounds


def node_rows(rows: int, sizes: Sequence[int], index: int, unit: int) -> slice:
    """The rows of a batch that the ranks of a node take, in units of so many."""
    first, ranks = sum(sizes[:index]), sum(sizes)
    parts = [share(rows, first + rank, ranks, unit) for rank in (0, sizes[index] - 1)]
    return slice(parts[0].start, parts[1].stop)


def blocks(layers: Sequence[tuple[int, int]], fixed: bool, ranks: int) -> list[list[tuple[int, slice]]]:
    """For each rank of a node, its blocks: the number of a layer, and some of this layer's units.

    layers: of each, how many units it has, and how many parameters a unit has. fixed: cut each layer into blocks of
    about BLOCK_NUMBERS parameters, whatever the number of ranks; else each rank gets one run of all parameters.
    """
    total = sum(units * numbers for units, numbers in layers)
    of_ranks: list[list[tuple[int, slice]]] = [[] for _ in range(ranks)]
    before = 0  # parameters of the layers and blocks that have been given away
    for number, (units, numbers) in enumerate(layers):
        if fixed:
            count = max(1, min(round(units * numbers / BLOCK_NUMBERS), units, MOST_BLOCKS))
            tile = _TILE_UNITS if units >= _TILE_UNITS * count else 1
            borders = [*(round(units * block / count / tile) * tile for block in range(count)), units]
        else:
            at = [round((total * rank / ranks - before) / numbers) for rank in range(1, ranks)]
            borders = [0, *(min(max(border, 0), units) for border in at), units]
        for start, stop in itertools.pairwise(borders):
            if start < stop:
                middle = before + (start + stop) / 2 * numbers
                of_ranks[min(math.floor(middle * ranks / total), ranks - 1)].append((number, slice(start, stop)))
        before += units * numbers
    return of_ranks


def merged(runs: Sequence[slice]) -> list[slice]:
    """The same numbers in fewer runs, in order, without empty ones."""
    found: list[slice] = []
    for run in sorted(runs, key=lambda run: run.start):
        if found and found[-1].stop == run.start:
            found[-1] = slice(found[-1].start, run.stop)
        elif run.stop > run.start:
            found.append(run)
    return found
