"""How the ranks make the gradient of the global batch.

Each rank adds up the gradients of its own pieces of the batch. Then one collective sum adds up the vectors of all
ranks. A few more numbers, the riders, travel in the same vector: the trainer wants them summed in the same step, the
loss for example. The exchange does not know what they mean.
"""

import math
from typing import Protocol

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import Communicator
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.training.metrics import GRID_LIMIT, FloatTally, GridTally, Tally

_PIECE_ROWS = 256  # rows that a rank takes through the layers at a time: more don't fit into its cache

# One addition turns a float into a whole number of 2^-40. A float64 has 52 bits behind its leading 1. From 2^12 to
# 2^13 the last of these bits is worth 2^-40, so the floats there are the multiples of 2^-40. If the bits of two
# neighbours are read as integers, they differ by 1. Adding 1.5 * 2^12 = 6144 to a number x between -2048 and 2048 gives
# a float between 2^12 and 2^13. So the sum is rounded to a multiple of 2^-40, and its bits are, as an integer,
# (the bits of 6144.0) + (how many times 2^-40 goes into x). Example for x = 0.5:
#   (np.float64(0.5) + 6144).view(np.int64) - np.float64(6144).view(np.int64) == 2**39 == 0.5 / 2**-40
_SHIFT = 1.5 * 2**12
_SHIFT_BITS = int(np.float64(_SHIFT).view(np.int64))


class Exchange(Protocol):
    """From gradients of each rank's rows to the gradient of the global batch, on every rank.

    A step is: `add_gradients` after each backward, any number of times, then `sum` on every rank.
    """

    micro_rows: int | None
    """Rows of the shards in which the model gets its rows; None if they come all together."""
    piece_rows: int
    """How many rows a rank may take through the layers at a time: a whole number of shards."""
    tally: Tally
    """How the rows' losses are counted, so that they add up in the way gradients do."""
    grads: Array
    """The gradient of the global batch (P,), after `sum`."""
    riders: Array
    """Numbers (k,) that `sum` replaces by their sums over ranks; they are written before it, and read after it."""

    def prepare(self, comm: Communicator, model: Sequential, batch_size: int, riders: int) -> None:
        """Make the memory for a model's gradients, and let the model write them there. Collective.

        riders: how many there are to be. Raises InputError at a second call: an exchange has the memory of one trainer.
        """
        ...

    def add_gradients(self, rows: int) -> None:
        """Add the gradients of the model's last backward, which took so many rows."""
        ...

    def sum(self) -> None:
        """Fill `grads` with the sum of all that all ranks have added, and `riders` with their sums. Collective.

        If `not_finite` then names something, `grads` is worth nothing.
        """
        ...

    def not_finite(self, loss: float) -> str | None:
        """What is wrong if the loss or a gradient could not be summed, else None: the same on every rank."""
        ...

    def sum_rows(self, partial: Array) -> Array:
        """What layers get as Context.sum_rows: sums (n,) of this rank's rows -> sums of the batch's rows. Collective.

        If rows come in shards the sums are those of each shard, (shards, n).
        """
        ...


class FloatExchange:
    """Sums in floating point: equal on all ranks, and on any number of ranks up to rounding."""

    micro_rows: int | None = None
    piece_rows = _PIECE_ROWS
    tally: Tally = FloatTally()

    def prepare(self, comm: Communicator, model: Sequential, batch_size: int, riders: int) -> None:
        _refuse_second_trainer(self, comm)
        parameters = model.params.size
        self._vector = comm.summed_vector(parameters + riders, model.dtype)
        sums = self._vector.array
        self.grads, self.riders = sums[:parameters], sums[parameters:]
        # A rank that has one piece per step lets the model write where it is summed.
        in_pieces = -(-batch_size // comm.size) > self.piece_rows and not model.joins_rows
        self._piece = np.zeros_like(self.grads) if in_pieces else self.grads
        model.attach_grads(self._piece)
        self._comm, self._model, self._pieces = comm, model, 0

    def add_gradients(self, rows: int) -> None:
        self._model.write_gradients()
        if self._pieces:
            np.add(self.grads, self._piece, out=self.grads)
        elif self._piece is not self.grads:
            np.copyto(self.grads, self._piece)
        self._pieces += 1

    def sum(self) -> None:
        if not self._pieces:
            self.grads.fill(0)
        self._pieces = 0
        self._vector.sum()

    def not_finite(self, loss: float) -> str | None:
        if math.isfinite(loss + float(np.dot(self.grads, self.grads))):
            return None
        if not math.isfinite(loss):
            return "the loss is not a finite number"
        # A sum of squares may overflow although no gradient did.
        return None if np.isfinite(self.grads).all() else "the gradient is not a finite number"

    def sum_rows(self, partial: Array) -> Array:
        total = partial.copy()
        self._comm.allreduce_(total)
        return total

    def __str__(self) -> str:
        return ""


class GridExchange:
    """Sums without an order: each shard's gradient is rounded to multiples of 2^-40, added up exactly as integers.

    So it makes the same bits whichever rank has which shards, on any number of ranks.
    """

    tally: Tally = GridTally()

    def __init__(self, micro_rows: int | None = None) -> None:
        """micro_rows: rows of each shard; by default what suits the batch, see `default_micro_rows`."""
        self.micro_rows = micro_rows

    def prepare(self, comm: Communicator, model: Sequential, batch_size: int, riders: int) -> None:
        _refuse_second_trainer(self, comm)
        self.micro_rows = self.micro_rows or default_micro_rows(batch_size)
        self.piece_rows = max(1, _PIECE_ROWS // self.micro_rows) * self.micro_rows
        parameters = model.params.size
        self._slices = model.parameter_slices()
        self._vector = comm.summed_vector(parameters + len(self._slices) + 1 + riders, np.int64)
        sums = self._vector.array
        # One behind the other: the gradients; for each parameter, how many shards had no place on the grid; how many
        # shards were added; the riders.
        self._whole, self._beyond, self._count, self.riders = np.split(
            sums, np.cumsum((parameters, len(self._slices), 1))
        )
        self.grads, self._shard = np.empty(parameters, model.dtype), np.empty(parameters, model.dtype)
        model.attach_grads(self._shard)
        self._shifted = np.empty(parameters)
        self._comm, self._model, self._shards = comm, model, 0

    def add_gradients(self, rows: int) -> None:
        assert self.micro_rows is not None
        for shard in range(-(-rows // self.micro_rows)):
            if not self._shards:
                self._beyond[...] = 0
            self._model.write_gradients(shard)
            shifted = self._shifted if self._shards else self._whole.view(np.float64)
            np.copyto(shifted, self._shard)  # on its own, as a sum of mixed types converts piece by piece
            shifted += _SHIFT
            if self._shards:
                self._whole += shifted.view(np.int64)
            self._shards += 1
            self._find_beyond(self._shard)

    def sum(self) -> None:
        if not self._shards:
            self._whole.fill(0)
            self._beyond.fill(0)
        self._count[0] = self._shards
        self._shards = 0
        self._vector.sum()
        # Each shard has brought a shift along, and one is to stay. Integers wrap around: any number of them goes away.
        self._whole -= np.array((int(self._count[0]) - 1) * _SHIFT_BITS % 2**64, np.uint64).view(np.int64)
        sums = self._whole.view(np.float64)
        sums -= _SHIFT
        np.copyto(self.grads, sums, casting="same_kind")
        self._find_beyond(self.grads)

    def not_finite(self, loss: float) -> str | None:
        names = [f"the gradient of {name}" for name, beyond in zip(self._slices, self._beyond, strict=True) if beyond]
        if not math.isfinite(loss):
            names.append("the loss")
        if not names:
            return None
        return f"{names[0]} is not a finite number below {GRID_LIMIT:g}, the most that adds up exactly,"

    def sum_rows(self, partial: Array) -> Array:
        # A sum without a place on the grid makes the total not a number, and so the loss, which is then named.
        fits = np.abs(partial) < GRID_LIMIT
        shifted = np.where(fits, partial, 0).astype(np.float64) + _SHIFT
        totals = np.stack([(shifted.view(np.int64) - _SHIFT_BITS).sum(axis=0), (~fits).sum(axis=0)])
        self._comm.allreduce_(totals)
        return np.where(totals[1] == 0, totals[0] * 2.0**-40, np.nan).astype(partial.dtype)

    def __str__(self) -> str:
        return f"reproducible, in micro-shards of {self.micro_rows} rows"

    def _find_beyond(self, gradient: Array) -> None:
        """Note the parameters of which a component has no place on the grid."""
        # Written so that it is true of what is not a number. The quick look at all is the usual case.
        if not np.dot(gradient, gradient) < GRID_LIMIT**2:
            self._beyond += [not np.abs(gradient[part]).max() < GRID_LIMIT for part in self._slices.values()]


def _refuse_second_trainer(exchange: Exchange, comm: Communicator) -> None:
    with comm.together():
        if hasattr(exchange, "grads"):
            raise InputError(f"this {type(exchange).__name__} belongs to another trainer; give each trainer its own")


def default_micro_rows(batch_size: int) -> int:
    """Rows of a micro-shard, if nothing else is asked for: of a small batch 16, so that several ranks have some.

    Larger ones are quicker, up to about 128 rows, and a batch of more than 128 rows is cut into 8 of them, or more.
    """
    return min(max(16, -(-batch_size // 8)), 128)
