"""An allreduce whose reduction happens inside a matrix product: each rank the gradient of its own run of parameters.

A layer's weight gradient dW = X^T dY is a sum over the rows of the batch. Here each rank writes the factors X and dY of
its own rows where all ranks of its node see them. Then it makes, from the factors of all rows, the gradient of its own
run of the parameters, and updates this run, which the others then copy. So no gradient is added up, and no update is
made twice on a node.

Between nodes there are two ways. Either the factors of all rows are gathered on every node: those of a small batch are
fewer bytes than the gradient (sufficient factors: Xie et al., arXiv:1409.5705; Poseidon, arXiv:1706.03292). Or each
node makes gradients from its own rows, and these are added over the nodes, run by run.

To be reproducible, rows go through the layers in micro-shards, and a product has a shape that depends on network and
batch alone: it makes one of fixed blocks of the parameters from one of fixed chunks of the rows, and the gradients of
chunks are added in an order of their own: see ordered_sum.py. Which rank makes which product, and what goes between
nodes, then changes no bit. If there are chunks enough, each rank takes whole ones and shares no factors at all. Larger
products, of several micro-shards or blocks, take the place of fixed ones where a trial shows that they have the same
bits: see trials.py.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Reader
from ddp_numpy.exchange.bound import NormBound
from ddp_numpy.exchange.division import MOST_BLOCKS, Round, blocks, merged
from ddp_numpy.exchange.factor_memory import (
    FactorPiece,
    Shapes,
    cut_layers,
    factor_shapes,
    input_layer,
    move_state,
    node_memory,
    state_shapes,
)
from ddp_numpy.exchange.gathering import much_quicker, unlike_kernels
from ddp_numpy.exchange.gradients import (
    FloatExchange,
    GradientExchange,
    GridExchange,
    beyond_the_grid,
    refuse_second_trainer,
)
from ddp_numpy.exchange.grid import sum_rows, sum_rows_exactly
from ddp_numpy.exchange.mailbox import Mailbox
from ddp_numpy.exchange.node_sum import NodeSum
from ddp_numpy.exchange.ordered_sum import memory_for_sum
from ddp_numpy.exchange.own_gradient import OwnChunks, SharedFactors
from ddp_numpy.exchange.plans import Between, Plan, Plans, plan_rows
from ddp_numpy.exchange.products import Block, run
from ddp_numpy.exchange.protocol import Exchange, Piece, read_rows
from ddp_numpy.exchange.rest import Rest
from ddp_numpy.exchange.tally import FloatTally, GridTally, Tally
from ddp_numpy.exchange.trials import Trials
from ddp_numpy.nn import Array, Cut, Layer, Loss, Sequential
from ddp_numpy.optim import Optimizer


class FactorExchange:
    """Gradients cut along parameters, of layers that can be cut: see Layer.cut. Those of the others are summed."""

    tally: Tally
    grads: Array
    riders: Array
    runs: Sequence[slice]
    found: str | None = None

    def __init__(
        self,
        *,
        reproducible: bool = True,
        micro_rows: int | None = None,
        between: Between = "auto",
        parts: int = 1,
    ) -> None:
        """reproducible: the same bits on any number of ranks. micro_rows: rows of a micro-shard then.

        parts: in how many pieces at least a rank takes its rows of a batch. between: what goes between nodes, "factors"
        or "slices" of gradients; "auto": factors, if they take a tenth less time in a short trial. Where each node has
        one rank, a slice is the whole gradient: `prepare` then returns the textbook's exchange, unless it has to be
        reproducible.
        """
        self.reproducible, self.micro_rows, self.between, self.parts = reproducible, micro_rows, between, parts
        self.tally = GridTally() if reproducible else FloatTally()

    def prepare(
        self,
        comm: Communicator,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        riders: int,
    ) -> Exchange:
        refuse_second_trainer(self, comm)
        self._comm, self._model = comm, model
        places = model.layer_slices()
        cuts = {layer: cut for layer in places if (cut := layer.cut()) is not None}
        hosts = len(comm.hosts())
        self._rows = plan_rows(
            model, cuts, batch_size, comm.size, hosts, self.reproducible, self.micro_rows, self.between, self.parts
        )
        self.micro_rows = self._rows.micro
        self._take_memory(optimizer, cuts, loss, riders)
        self._rest = self._sum_rest([layer for layer in places if layer not in cuts], batch_size)
        self._trials = Trials(model, loss, by_shards=self._rest is not None)
        gathers = self._finds_to_gather(batch_size)
        if self.found == "gradients":
            textbook = FloatExchange(parts=self.parts)
            textbook.found = self.found
            return textbook.prepare(comm, model, loss, optimizer, batch_size, riders)
        self._divide(gathers)
        return self

    def _take_memory(self, optimizer: Optimizer, cuts: Mapping[Layer, Cut], loss: Loss, riders: int) -> None:
        """Make memory for what ranks write for others, and move the optimizer's state there, for rank 0 to save."""
        model, ranks, rows = self._model, self._comm.size, self._rows
        # A rank that is alone updates all parameters itself, as each does in the textbook.
        self._update_whole = not optimizer.elementwise and not rows.alone
        state = {
            name: array
            for name, array in optimizer.state.items()
            if not rows.alone and (array.shape == model.params.shape or self._update_whole)
        }
        most_blocks, most_chunks = MOST_BLOCKS * len(cuts) + ranks, -(-rows.chunks // ranks)
        factors, first = factor_shapes(cuts, rows.held, model.dtype), input_layer(cuts, model)
        read = f"X of {first.number}" if first is not None and rows.read_anew else None
        own = {name: factors.pop(name) for name in list(factors) if rows.alone or name == read}
        shared: Shapes = {
            "mailbox": (model.params.shape, model.dtype),
            "grads": (model.params.shape if self._update_whole else (0,), model.dtype),
            "riders": ((ranks, riders + 1), self.tally.dtype),
            "totals": ((riders + 1,), self.tally.dtype),
            "unfit": ((most_blocks,), np.bool_),
            "norms": ((most_blocks + 1,), np.float64),
            "sums": ((ranks if rows.alone else 0, memory_for_sum(most_chunks), model.params.size), model.dtype),
            **state_shapes(state),
            **factors,
        }
        self._node, self._memory = node_memory(self._comm, shared, own, f"the factors of {rows.held:,} rows")
        move_state(optimizer, self._memory, self._node)
        self._cuts = cut_layers(cuts, self._memory, model, loss)
        # One more number travels along: how many ranks can't be sure that the gradient is finite.
        self._riders = np.zeros(riders + 1, self.tally.dtype)
        self.riders = self._riders[:-1]
        self._bound = NormBound(model.dtype, ranks)

    def _sum_rest(self, layers: list[Layer], batch_size: int) -> Rest | None:
        """Have the gradients of layers that can't be cut summed; None if there are none."""
        if not layers:
            return None
        exchange: GradientExchange = GridExchange(self.micro_rows) if self.reproducible else FloatExchange()
        exchange.prepare_layers(self._comm, self._model, layers, batch_size, riders=0)
        return Rest(self._model, layers, exchange)

    def _finds_to_gather(self, batch_size: int) -> bool:
        """Whether each node makes its gradient from the whole batch. Collective."""
        may_gather = self._rows.may_gather
        if len(self._node.sizes) == 1:
            return False
        unlike = unlike_kernels(self._comm)
        if self.between != "auto":
            with self._comm.together():
                if may_gather and unlike:
                    raise InputError(unlike)
            return may_gather
        # Where each node has one rank, its slice is the whole gradient, and the textbook adds it up with fewer calls.
        otherwise = "slices" if self.reproducible or max(self._node.sizes) > 1 else "gradients"
        gathers = False
        if may_gather and not unlike:
            ways = [partial(self._ready_to_exchange, way, batch_size) for way in ("factors", otherwise)]
            gathers = much_quicker(self._comm, *ways)
        if not self.reproducible:  # then other bits would come of the other way
            self.found = "factors" if gathers else otherwise
        return gathers

    def _ready_to_exchange(self, way: str, batch_size: int) -> Callable[[], None]:
        """An exchange of what is in memory, in one of the ways of `found`."""
        self._divide(gathers=way == "factors")
        plan = self._plans.of(batch_size, 0)
        vector = np.zeros(len(self._gradient.all) + len(self._riders), self._model.dtype)

        def as_in_the_textbook() -> None:
            self._add_chunks(plan.rounds[-1])
            self._gradient.close(self._gradient.sum_of_ranks(plan.of_places).total())
            self._comm.allreduce_(vector)

        return as_in_the_textbook if way == "gradients" else lambda: self._exchange(plan)

    def _divide(self, gathers: bool) -> None:
        """Give each rank of the node its blocks, and begin anew. gathers: each node makes the gradient of all rows."""
        node, model, self._gathers = self._node, self._model, gathers
        self._plans = Plans(node, self._rows, gathers, self._cuts, self._trials, self._memory["riders"])
        self._step = 0
        self._reader: Reader | None = None
        several = len(node.sizes) > 1 and not gathers
        moved = [(cut.dY,) if cut.is_first else (cut.X, cut.dY) for cut in self._cuts if gathers]
        self.gathered_bytes = sum(factor.nbytes for own in moved for factor in own)
        self.summed_bytes = sum(model.params[cut.place].nbytes for cut in self._cuts if not gathers)
        if self._rest is not None:
            self.summed_bytes += self._rest.summed_bytes
        # Ranks without a partner on each node can't add slices with those of other nodes.
        ranks = node.partners if several else node.size
        layers = [((cut.place.stop - cut.place.start) // cut.numbers, cut.numbers) for cut in self._cuts]
        # Nodes that make the same gradient, each for itself, are to make the same products, too.
        of_ranks = [
            [(self._cuts[number], units) for number, units in own]
            for own in blocks(layers, self.reproducible or gathers, ranks)
        ]
        of_ranks += [[] for _ in range(node.size - ranks)]
        self._names = [f"layer {cut.layer.number} ({type(cut.layer).__name__})" for own in of_ranks for cut, _ in own]
        self._first_block = sum(map(len, of_ranks[: node.rank]))
        firsts = [units for cut, units in of_ranks[node.rank] if cut.is_first]
        self._features = model.layers[0].features(slice(firsts[0].start, firsts[-1].stop)) if firsts else slice(0)
        self._node_sums: dict[int, NodeSum] | None = {} if several else None
        self._gradient: SharedFactors | OwnChunks
        if self._rows.alone:  # as in the textbook, each rank gets all of the gradient, and updates everything
            self._gradient = OwnChunks(of_ranks, node, self._trials, self._memory["sums"])
            runs = [[slice(0, model.params.size)] for _ in of_ranks]
        else:
            self._gradient = SharedFactors(of_ranks, node.rank, self._trials, self._rows.chunks, model.dtype)
            runs = [self._runs(own, rank) for rank, own in enumerate(of_ranks)]
        if self._update_whole:
            self.grads, runs = self._memory["grads"], [[slice(0, model.params.size)], *([] for _ in runs[1:])]
        elif self._rest is not None:
            self.grads = np.zeros_like(model.params)
        else:
            self.grads = self._gradient.all
        # If the gradient is made elsewhere, it is copied.
        elsewhere = self._update_whole or self._rest is not None
        self._copies = [(self.grads[run(block)], part) for block, part in self._gradient.filled if elsewhere]
        if self._rest is None:
            model.attach_grads(self.grads)
        self.runs = runs[node.rank]
        self._sees_all = self._rows.alone or self._comm.size == 1
        self._mailbox = None if self._sees_all else Mailbox(node, self._memory["mailbox"], model.params, runs)

    def _runs(self, own: Sequence[Block], rank: int) -> list[slice]:
        """What a rank of the node updates: its blocks, and its share of the parameters that are summed."""
        runs = [run(block) for block in own]
        if self._rest is not None:
            runs += self._rest.runs(rank, self._node.size)
        return merged(runs)

    def pieces(self, rows: int) -> Sequence[FactorPiece]:
        self._step += 1
        self._current = self._plans.of(rows, self._step)
        return self._current.pieces

    def read(self, reader: Reader, batch: Array, piece: Piece) -> tuple[Array, Array]:
        assert isinstance(piece, FactorPiece)
        self._reader, self._batch = reader, batch
        for writer, memory in piece.lends:
            writer.lend(memory)
        return read_rows(reader, batch[piece.rows], piece.micro_rows, piece.X)

    def add(self, piece: Piece) -> None:
        assert isinstance(piece, FactorPiece)
        for layer, X_memory, dY_memory in piece.factors:
            X, dY = layer.factors()
            if X is not X_memory:  # it was not written there of itself
                np.copyto(X_memory, X)
            if dY is not dY_memory:
                np.copyto(dY_memory, dY)
        for writer, _ in piece.lends:  # another rank may have this memory in the next step
            writer.take_back()
        if not self._sees_all:
            assert self._reader is not None
            self._bound.add(piece, self._reader.largest)
        if self._rest is not None:
            self._rest.add(piece)
        if piece.closes and self._sees_all:
            self._add_chunks(piece.round)
        elif piece.closes:
            self._read_missing(self._current, piece.round)
            self._node.wait()
            self._add_chunks(piece.round)
            self._node.wait()

    def sum(self) -> None:
        self._riders[-1] = not self._bound.close()
        self._memory["riders"][self._current.place] = self._riders
        self._exchange(self._current)
        for to, part in self._copies:
            np.copyto(to, part)
        if self._rest is not None:
            self._rest.sum(self.grads)
        if self._update_whole:
            self._node.wait()

    def _exchange(self, plan: Plan) -> None:
        """From the factors of the node's rows, or of those of its last round, to this rank's run of the gradient."""
        node, gradient = self._node, self._gradient
        if not self._sees_all:
            self._read_missing(plan, plan.rounds[-1])
            node.wait()
        if plan.gathering is not None:
            plan.gathering.run()
            node.wait()
        self._add_chunks(plan.rounds[-1])
        sums, all_riders = gradient.sum_of_ranks(plan.of_places), self._memory["riders"]
        if self._node_sums is None:
            np.add.reduce(all_riders, axis=0, out=self._riders)
            gradient.close(sums.total())
            return
        np.add.reduce(all_riders[node.first : node.first + node.size], axis=0, out=self._riders)
        if not self.reproducible:  # then what is added up has the numbers of the nodes
            sums.total()
        if plan.rows not in self._node_sums:
            self._node_sums[plan.rows] = NodeSum(node, gradient.own, plan.of_nodes, self._riders)
        self._node_sums[plan.rows].run(sums.sums)
        gradient.close(gradient.own)
        if node.rank == 0:
            self._memory["totals"][...] = self._riders
        node.wait()
        self._riders[...] = self._memory["totals"]

    def _add_chunks(self, held: Round) -> None:
        for chunk in held.chunks:
            rows = slice(chunk.start - held.rows.start, chunk.stop - held.rows.start)
            self._gradient.add(chunk.start // (self._rows.chunk or self._rows.held), rows)

    def _read_missing(self, plan: Plan, held: Round) -> None:
        """Read input rows that this rank has not taken: those that it needs, and nobody writes for it."""
        if self._reader is None:  # while both ways are tried
            return
        features = self._features if self._rows.read_anew else slice(None)
        for rows, place in plan.missing[held.rows.start]:
            self._reader.read_features(self._batch[rows], features, self._cuts[0].X[place, features])

    def not_finite(self, loss: float) -> str | None:
        if not math.isfinite(loss):
            return beyond_the_grid("the loss") if self.reproducible else "the loss is not a finite number"
        if self._rest is not None and (found := self._rest.not_finite(loss)):
            return found
        unfit = self._memory["unfit"]
        if self._sees_all:
            if math.isfinite(np.dot(self.grads, self.grads)):
                return None
            unfit = np.array([not np.isfinite(part).all() for _, part in self._gradient.filled])
        elif not self._riders[-1]:
            return None
        else:
            for number, part in enumerate(self._gradient.own_parts, self._first_block):
                unfit[number] = not np.isfinite(part).all()
            self._node.wait()
        if not unfit.any():
            return None
        return f"the gradient of {self._names[int(np.argmax(unfit))]} is not a finite number"

    def norm(self) -> float:
        norms = self._memory["norms"]
        for number, part in enumerate(self._gradient.own_parts, self._first_block):
            exact = part.astype(np.float64)
            norms[number] = np.dot(exact, exact)
        if self._rest is not None and self._node.rank == 0:
            norms[-1] = self._rest.squared_norm()
        self._node.wait()
        norm = np.array([math.sqrt(sum(norms.tolist()))])
        if len(self._node.sizes) > 1:
            self._comm.broadcast_(norm)  # another kind of CPU may have added up in another order
        return float(norm[0])

    def publish(self) -> None:
        if self._mailbox is not None:
            self._mailbox.exchange()

    def broadcast_(self, x: Array) -> None:
        if any(x is array for array in self._memory.values()):
            self._node.broadcast_(x)
        else:
            self._comm.broadcast_(x)

    def sum_rows(self, partial: Array) -> Array:
        return sum_rows_exactly(self._comm, partial) if self.reproducible else sum_rows(self._comm, partial)

    def __str__(self) -> str:
        nodes = len(self._node.sizes)
        if self._comm.size == 1:
            way = "none"
        elif nodes == 1:
            chunk = self._rows.chunk
            way = f"gradients of {chunk} rows each" if self._rows.alone else "factors in shared memory"
        else:
            who = f"{nodes} nodes" if max(self._node.sizes) > 1 else f"{nodes} ranks"
            way = f"factors, gathered on {who}" if self._gathers else f"slices of gradients, summed between {who}"
        return f"{way}; reproducible, in micro-shards of {self.micro_rows} rows" if self.reproducible else way
