"""What a rank does with a batch of so many rows: planned once, and done in each step."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ddp_numpy.comm import Node
from ddp_numpy.data import share
from ddp_numpy.exchange.division import (
    ROUND_ROWS,
    SHARED_ROWS,
    Alone,
    Round,
    by_nodes,
    chunk_rows,
    chunk_sums,
    node_rows,
    whole_batch,
)
from ddp_numpy.exchange.factor_memory import CutLayer, FactorPiece, factor_piece, input_layer
from ddp_numpy.exchange.gathering import Gathering
from ddp_numpy.exchange.gradients import default_micro_rows
from ddp_numpy.exchange.protocol import PIECE_ROWS, piece_rows
from ddp_numpy.exchange.trials import Trials
from ddp_numpy.nn import Array, Cut, Layer, Sequential

Between = Literal["auto", "factors", "slices"]


@dataclass(frozen=True)
class Rows:
    """How many rows there are of everything."""

    batch: int
    """In whole micro-shards, if there are any."""
    micro: int | None
    """Of a micro-shard; None: there are none."""
    piece: int | None
    """That a rank takes through the layers at a time; None: all that it has."""
    chunk: int | None
    """Whose gradient is a product of its own, whichever rank makes it; None: there are no chunks."""
    held: int
    """Whose factors a node holds at the same time."""
    may_gather: bool
    """Whether nodes may gather the factors of all rows, as far as settings, network and batch decide it."""
    alone: bool
    """Whether each rank makes the gradient of all parameters from chunks that are its own."""
    read_anew: bool
    """Whether each rank reads the input rows that it needs from the data, although another rank has them."""

    @property
    def unit(self) -> int:
        """Rows that one rank takes together."""
        return self.micro or 1

    @property
    def chunks(self) -> int:
        """How many gradients are added up."""
        return -(-self.batch // (self.chunk or self.held))


def plan_rows(
    model: Sequential,
    cuts: Mapping[Layer, Cut],
    batch_size: int,
    ranks: int,
    hosts: int,
    reproducible: bool,
    micro_rows: int | None,
    between: Between,
    parts: int,
) -> Rows:
    """For batches of so many rows, and layers that are cut like this."""
    micro = micro_rows or default_micro_rows(batch_size) if reproducible else None
    unit = micro or 1
    batch, places = -(-batch_size // unit) * unit, model.layer_slices()
    first = input_layer(cuts, model)
    moved = sum(math.prod(cut.X) * (layer is not first) + math.prod(cut.dY) for layer, cut in cuts.items())
    numbers = sum(places[layer].stop - places[layer].start for layer in cuts)
    # Twice the bytes are worth a trial: a sum moves each number out and back.
    few = bool(batch_size * moved <= 2 * numbers)
    chunk = chunk_rows(batch_size, unit, few) if reproducible else None
    may_gather = few if between == "auto" else between == "factors"
    holds_batch = model.joins_rows or (may_gather and (hosts > 1 or between == "factors"))
    alone = chunk is not None and not holds_batch and 1 < ranks <= -(-batch // chunk)
    # With whole chunks of its own nobody waits at the end of a round, and of few rows more stays in the cache.
    most = PIECE_ROWS if alone or (reproducible and ranks == 1) else ROUND_ROWS
    held = batch if holds_batch else min(max(1, most // (chunk or 1)) * (chunk or 1), batch)
    piece = piece_rows(model, batch_size, ranks, unit, parts)
    read_anew = held > SHARED_ROWS and ranks > 1 and not alone
    return Rows(batch, micro, piece, chunk, held, may_gather and held == batch, alone, read_anew)


@dataclass(frozen=True)
class Plan:
    """What this rank does with a batch of so many rows."""

    rows: int
    place: int
    """Of this rank's rows, among those of all ranks."""
    rounds: list[Round]
    pieces: list[FactorPiece]
    gathering: Gathering | None
    missing: dict[int, list[tuple[slice, slice]]]
    """Of a round, by its first row: input rows that this rank has to read, as it takes others, and their places."""
    of_places: list[list[slice]]
    """Which chunks are in each partial sum of this node's ranks, if each is alone."""
    of_nodes: list[list[slice]]
    """The same of all nodes."""


class Plans:
    """The plans of a rank. Each is made when it is first asked for."""

    def __init__(
        self,
        node: Node,
        rows: Rows,
        gathers: bool,
        cuts: list[CutLayer],
        trials: Trials,
        riders: Array,
    ) -> None:
        """gathers: each node makes the gradient of the whole batch. riders: an array with a row of each rank."""
        self._node, self._rows, self._gathers = node, rows, gathers
        self._cuts, self._trials, self._riders = cuts, trials, riders
        self._made: dict[tuple[int, int], Plan] = {}

    def of(self, rows: int, step: int) -> Plan:
        """For a batch of so many rows.

        Ranks that share factors take turns with the rows from step to step, for the reason that Mailbox gives.
        """
        turn = 0 if self._rows.alone else step
        key = rows, (self._node.rank + turn) % self._node.size
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, rows: int, turn: int) -> Plan:
        node, own, gathering = self._node, self._rows, None
        if self._gathers:
            rounds, gathering = [whole_batch(rows, node, turn, own.unit, own.piece, own.chunk)], self._gathering(rows)
        else:
            team = Alone(node.first + turn, sum(node.sizes)) if own.alone else node
            rounds = by_nodes(rows, team, 0 if own.alone else turn, own.unit, own.piece, own.chunk, own.held)
        direct = node.size == 1 or own.alone or own.read_anew
        pieces = [
            factor_piece(
                part,
                held,
                self._micro_rows(part.stop - part.start),
                self._cuts,
                direct,
                closes=part is held.pieces[-1] and held is not rounds[-1],
            )
            for held in rounds
            for part in held.pieces
        ]
        of_places = self._chunk_sums(rows, (1,) * sum(node.sizes))[node.first : node.first + node.size]
        of_nodes, missing = (
            self._chunk_sums(rows, node.sizes),
            {held.rows.start: self._missing(held) for held in rounds},
        )
        return Plan(rows, node.first + turn, rounds, pieces, gathering, missing, of_places, of_nodes)

    def _missing(self, held: Round) -> list[tuple[slice, slice]]:
        """Input rows of a round that this rank has to read although it takes others, and their places in memory."""
        node, found = self._node, []
        if not self._cuts or not self._cuts[0].is_first:
            return []
        if self._rows.read_anew:
            own, rank, ranks = slice(held.pieces[0].start, held.pieces[-1].stop), 0, 1
        elif self._gathers:  # nodes don't send input rows to each other; the ranks of a node share the reading
            own, rank, ranks = node_rows(held.rows.stop, node.sizes, node.index, self._rows.unit), node.rank, node.size
        else:
            return []
        for missing in (slice(held.rows.start, own.start), slice(own.stop, held.rows.stop)):
            part = share(missing.stop - missing.start, rank, ranks)
            rows = slice(missing.start + part.start, missing.start + part.stop)
            if rows.start < rows.stop:
                found.append((rows, slice(rows.start - held.rows.start, rows.stop - held.rows.start)))
        return found

    def _chunk_sums(self, rows: int, sizes: Sequence[int]) -> list[list[slice]]:
        """Which chunks are in each partial sum of nodes of so many ranks; if there are none, the nodes' numbers."""
        chunk = self._rows.chunk
        if chunk is None:
            return [[slice(index, index + 1)] for index in range(len(sizes))]
        return [chunk_sums(node_rows(rows, sizes, index, chunk), chunk) for index in range(len(sizes))]

    def _micro_rows(self, rows: int) -> int | None:
        """In shards of how many rows the layers get a piece of so many."""
        micro = self._rows.micro
        return None if micro is None or self._trials.in_one(rows, micro) else micro

    def _gathering(self, rows: int) -> Gathering:
        sizes = self._node.sizes
        ranks = [slice(sum(sizes[:index]), sum(sizes[: index + 1])) for index in range(len(sizes))]
        of_nodes = [node_rows(rows, sizes, index, self._rows.unit) for index in range(len(sizes))]
        parts: list[tuple[Array, Sequence[slice]]] = [(self._riders, ranks)]
        for cut in self._cuts:
            parts += [(factor, of_nodes) for factor in ((cut.dY,) if cut.is_first else (cut.X, cut.dY))]
        return Gathering(self._node, parts)
