"""The textbook's exchange: each rank the gradient of all parameters from its own rows, and one sum over ranks.

Each rank adds up the gradients of its own pieces of the batch. Then one collective sum adds up the vectors of all
ranks, and each rank makes the identical update of a model of its own. A few more numbers, the riders, travel in the
same vector.
"""

import abc
import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Reader, pieces, share
from ddp_numpy.exchange.grid import GRID_LIMIT, FloatSum, GridSum, fits, sum_rows, sum_rows_exactly
from ddp_numpy.exchange.protocol import Exchange, Piece, piece_rows, read_rows
from ddp_numpy.exchange.tally import FloatTally, GridTally, Tally
from ddp_numpy.nn import Array, Layer, Loss, Sequential
from ddp_numpy.optim import Optimizer


@dataclass(frozen=True)
class _Rows:
    """A piece, of which there is nothing more to say."""

    rows: slice


class GradientExchange(abc.ABC):
    """Sums of the ranks' gradients over a vector of each rank; its kinds add up in different numbers."""

    parts = 1
    micro_rows: int | None = None
    tally: Tally
    grads: Array
    riders: Array
    runs: Sequence[slice]
    gathered_bytes = 0
    summed_bytes: int
    found: str | None = None
    _pieces: dict[int, list[_Rows]]
    """By the number of a batch's rows; made when they are first asked for."""

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
        model.grads = self.prepare_layers(comm, model, model.layer_slices(), batch_size, riders)
        self.runs = [slice(0, model.params.size)]
        return self

    @abc.abstractmethod
    def prepare_layers(
        self, comm: Communicator, model: Sequential, layers: Container[Layer], batch_size: int, riders: int
    ) -> Array:
        """Make the memory for the gradients of some of the layers, and let them write there. Collective.

        Returns where they write. `grads` then has these layers' parameters, one behind the other.
        """

    @abc.abstractmethod
    def add(self, piece: Piece) -> None: ...

    @abc.abstractmethod
    def sum(self) -> None: ...

    @abc.abstractmethod
    def not_finite(self, loss: float) -> str | None: ...

    @abc.abstractmethod
    def sum_rows(self, partial: Array) -> Array: ...

    def pieces(self, rows: int) -> Iterable[Piece]:
        if rows not in self._pieces:
            mine = share(rows, self._comm.rank, self._comm.size, self.micro_rows or 1)
            self._pieces[rows] = [_Rows(part) for part in pieces(mine, self._piece_rows)]
        return self._pieces[rows]

    def read(self, reader: Reader, batch: Array, piece: Piece) -> tuple[Array, Array]:
        return read_rows(reader, batch[piece.rows], self.micro_rows)

    def norm(self) -> float:
        # The gradient has the same bits on all ranks, but its norm need not: BLAS adds up in another order on another
        # kind of CPU. So all take the norm of rank 0, which costs 2 µs on two ranks.
        norm = np.array([np.linalg.norm(self.grads.astype(np.float64))] if self._comm.rank == 0 else [0.0])
        self._comm.broadcast_(norm)
        return float(norm[0])

    def publish(self) -> None:  # noqa: B027  # not abstract: each rank has updated all parameters
        """Nothing to do."""

    def broadcast_(self, x: Array) -> None:
        self._comm.broadcast_(x)

    def _way(self) -> str:
        return "gradients" if self._comm.size > 1 else "none"

    def _attach(
        self, comm: Communicator, model: Sequential, layers: Container[Layer], batch_size: int
    ) -> dict[str, slice]:
        """Note what the steps need; returns the parameters of the layers, and their places in a vector of their own."""
        self._comm, self._layers = comm, [layer for layer in model.all_layers if layer in layers]
        self._piece_rows = piece_rows(model, batch_size, comm.size, self.micro_rows or 1, self.parts)
        self._pieces = {}
        return model.parameter_slices(layers)


class FloatExchange(GradientExchange):
    """Sums in floating point: equal on all ranks, and on any number of ranks up to rounding."""

    def __init__(self, *, parts: int = 1) -> None:
        """parts: in how many pieces at least a rank takes its rows of a batch."""
        self.parts, self.tally = parts, FloatTally()

    def prepare_layers(
        self, comm: Communicator, model: Sequential, layers: Container[Layer], batch_size: int, riders: int
    ) -> Array:
        parameters = _size(self._attach(comm, model, layers, batch_size))
        self._vector = comm.summed_vector(parameters + riders, model.dtype)
        sums = self._vector.array
        self.summed_bytes = sums.nbytes
        self.grads, self.riders = sums[:parameters], sums[parameters:]
        # A rank that has one piece per step lets the model write where it is summed.
        in_pieces = self._piece_rows is not None and -(-batch_size // comm.size) > self._piece_rows
        self._piece = np.zeros_like(self.grads) if in_pieces else self.grads
        self._sum = FloatSum(self.grads)
        model.attach_layer_grads(self._piece, layers)
        return self._piece

    def add(self, piece: Piece) -> None:
        for layer in self._layers:
            layer.write_gradients()
        self._sum.add(self._piece)

    def sum(self) -> None:
        self._sum.close()
        self._vector.sum()

    def not_finite(self, loss: float) -> str | None:
        if math.isfinite(loss + float(np.dot(self.grads, self.grads))):
            return None
        if not math.isfinite(loss):
            return "the loss is not a finite number"
        # A sum of squares may overflow although no gradient did.
        return None if np.isfinite(self.grads).all() else "the gradient is not a finite number"

    def sum_rows(self, partial: Array) -> Array:
        return sum_rows(self._comm, partial)

    def __str__(self) -> str:
        return self._way()


class GridExchange(GradientExchange):
    """Sums without an order: each shard's gradient is rounded to multiples of 2^-40, added up exactly as integers.

    So it makes the same bits whichever rank has which shards, on any number of ranks.
    """

    def __init__(self, micro_rows: int | None = None, *, parts: int = 1) -> None:
        """micro_rows: rows of each shard; by default what suits the batch, see `default_micro_rows`.

        parts: in how many pieces at least a rank takes its rows of a batch.
        """
        self.micro_rows, self.parts, self.tally = micro_rows, parts, GridTally()

    def prepare_layers(
        self, comm: Communicator, model: Sequential, layers: Container[Layer], batch_size: int, riders: int
    ) -> Array:
        self.micro_rows = self.micro_rows or default_micro_rows(batch_size)
        self._slices = self._attach(comm, model, layers, batch_size)
        parameters = _size(self._slices)
        self._vector = comm.summed_vector(parameters + len(self._slices) + 1 + riders, np.int64)
        self.summed_bytes = self._vector.array.nbytes
        # One behind the other: the gradients; for each parameter, how many shards had no place on the grid; how many
        # shards were added; the riders.
        whole, self._beyond, self._count, self.riders = np.split(
            self._vector.array, np.cumsum((parameters, len(self._slices), 1))
        )
        self._sum = GridSum(whole)
        self.grads, self._shard = np.empty(parameters, model.dtype), np.empty(parameters, model.dtype)
        model.attach_layer_grads(self._shard, layers)
        return self._shard

    def add(self, piece: Piece) -> None:
        assert self.micro_rows is not None
        for shard in range(-(-(piece.rows.stop - piece.rows.start) // self.micro_rows)):
            if not self._sum.terms:
                self._beyond[...] = 0
            for layer in self._layers:
                layer.write_gradients(shard)
            self._sum.add(self._shard)
            self._find_beyond(self._shard)

    def sum(self) -> None:
        self._count[0] = self._sum.terms
        if not self._sum.terms:
            self._beyond.fill(0)
        self._sum.close()
        self._vector.sum()
        self._sum.total(int(self._count[0]), self.grads)
        self._find_beyond(self.grads)

    def not_finite(self, loss: float) -> str | None:
        names = [f"the gradient of {name}" for name, beyond in zip(self._slices, self._beyond, strict=True) if beyond]
        if not math.isfinite(loss):
            names.append("the loss")
        return beyond_the_grid(names[0]) if names else None

    def sum_rows(self, partial: Array) -> Array:
        return sum_rows_exactly(self._comm, partial)

    def __str__(self) -> str:
        return f"{self._way()}; reproducible, in micro-shards of {self.micro_rows} rows"

    def _find_beyond(self, gradient: Array) -> None:
        """Note the parameters of which a component has no place on the grid."""
        if not fits(gradient):
            self._beyond += [not fits(gradient[part]) for part in self._slices.values()]


def beyond_the_grid(what: str) -> str:
    """What is to be said of a gradient or a loss that does not add up exactly."""
    return f"{what} is not a finite number below {GRID_LIMIT:g}, the most that adds up exactly,"


def refuse_second_trainer(exchange: Exchange, comm: Communicator) -> None:
    """Raise InputError, on every rank, if the exchange was prepared before. Collective."""
    with comm.together():
        if hasattr(exchange, "grads"):
            raise InputError(f"this {type(exchange).__name__} belongs to another trainer; give each trainer its own")


def default_micro_rows(batch_size: int) -> int:
    """Rows of a micro-shard, if nothing else is asked for: of a small batch 16, so that several ranks have some.

    Larger ones are quicker, up to about 128 rows, and a batch of more than 128 rows is cut into 8 of them, or more.
    """
    return min(max(16, -(-batch_size // 8)), 128)


def _size(slices: dict[str, slice]) -> int:
    return sum(part.stop - part.start for part in slices.values())
