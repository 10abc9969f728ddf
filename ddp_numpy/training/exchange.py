"""What the ranks add up in a step: gradients, loss sums and whether to stop, in one vector for one collective."""

import math

import numpy as np
import numpy.typing as npt

from ddp_numpy.comm import Communicator
from ddp_numpy.nn import Array, Sequential

_GRID = 2.0**-40
# Of float64, those from 2^12 to 2^13 are multiples of 2^-40. Adding this one to a smaller number rounds it to them, and
# the sum's bits, read as an integer, are those of this one plus the number of multiples.
_SHIFT = 1.5 * 2**12
_SHIFT_BITS = int(np.float64(_SHIFT).view(np.int64))
_LIMIT = 2.0**11
_LOSS_GRID = 2.0**-30  # four million losses below the limit add up to less than 2^63 of these


def default_micro_rows(batch_size: int) -> int:
    """Rows of a micro-shard, where nothing else is asked for: of a small batch 16, so that several ranks have some.

    Larger ones are quicker, up to about 128 rows, and a batch of more than 128 rows is cut into 8 of them, or more.
    """
    return min(max(16, -(-batch_size // 8)), 128)


class FloatExchange:
    """Sums in floating point: equal on all ranks, and on any number of ranks up to rounding."""

    def __init__(self, comm: Communicator, model: Sequential, in_pieces: bool) -> None:
        """in_pieces: whether a rank may add more than one piece."""
        parameters = model.params.size
        self.vector = comm.empty(parameters + 4, model.dtype)
        self.grads, self.sums = self.vector[:parameters], self.vector[parameters:-1]
        self._piece = np.zeros_like(self.vector) if in_pieces else self.vector
        model.attach_grads(self._piece[:parameters])
        self._comm, self._model, self._pieces = comm, model, 0

    @staticmethod
    def row_sums(losses: Array, right: Array) -> Array:
        """What is counted of some rows, to be added up: the loss, the rows that are right, the rows."""
        return np.array((losses.sum(), np.count_nonzero(right), len(right)), np.float64)

    @staticmethod
    def figures(sums: Array) -> Array:
        """Loss, right rows and rows (3,) of what `row_sums` gave, added up."""
        return sums

    def add_piece(self, losses: Array, right: Array) -> None:
        """Add the gradient of the model's last backward, and what its rows came to."""
        self._model.write_gradients()
        self._piece[self.grads.size : -1] = self.row_sums(losses, right)
        if self._pieces:
            np.add(self.vector, self._piece, out=self.vector)
        elif self._piece is not self.vector:
            np.copyto(self.vector, self._piece)
        self._pieces += 1

    def sum_up(self, stop: bool) -> bool:
        """Fill `grads` and `sums` with the sums over all pieces of all ranks; returns whether any rank says stop."""
        if not self._pieces:
            self.vector.fill(0)
        self._pieces = 0
        self.vector[-1] = stop
        self._comm.allreduce_(self.vector)
        return bool(self.vector[-1])

    def not_finite(self) -> str | None:
        """What is wrong if a sum is not a finite number, else None: the same on every rank."""
        if math.isfinite(float(self.sums[0]) + float(np.dot(self.grads, self.grads))):
            return None
        if not math.isfinite(self.sums[0]):
            return "the loss is not a finite number"
        # A sum of squares may overflow where no gradient did.
        return None if np.isfinite(self.grads).all() else "the gradient is not a finite number"


class GridExchange:
    """Sums without an order: each shard's gradient is rounded to multiples of 2^-40, added up exactly as integers."""

    def __init__(self, comm: Communicator, model: Sequential, micro_rows: int) -> None:
        """micro_rows: of the shards in which the model gets its rows."""
        parameters = model.params.size
        self._slices = model.parameter_slices()
        self.vector = comm.empty(parameters + 4 + len(self._slices) + 2, np.int64)
        self._whole, self._tail = self.vector[:parameters], self.vector[parameters:]
        self._row_sums, self._beyond = self._tail[:4], self._tail[4:-2]
        self.grads, self.sums = np.empty(parameters, model.dtype), np.zeros(3)
        self._shard = np.empty(parameters, model.dtype)
        model.attach_grads(self._shard)
        self._shifted = np.empty(parameters)
        self._comm, self._model, self._micro_rows, self._shards = comm, model, micro_rows, 0

    @staticmethod
    def row_sums(losses: Array, right: Array) -> npt.NDArray[np.int64]:
        """What is counted of some rows, to be added up: the loss in multiples of 2^-30, the rows that are right, the
        rows, and those of them whose loss has no place on the grid."""
        fits = losses < _LIMIT
        multiples = np.rint(np.where(fits, losses, 0) / np.float64(_LOSS_GRID)).astype(np.int64)
        rows = len(losses)
        return np.array((multiples.sum(), np.count_nonzero(right), rows, rows - np.count_nonzero(fits)), np.int64)

    @staticmethod
    def figures(sums: npt.NDArray[np.int64]) -> Array:
        """Loss, right rows and rows (3,) of what `row_sums` gave, added up."""
        loss, right, rows, beyond = sums.tolist()
        return np.array((math.nan if beyond else loss * _LOSS_GRID, right, rows))

    def add_piece(self, losses: Array, right: Array) -> None:
        """Add the gradients of the model's last backward, shard by shard, and what its rows came to."""
        if not self._shards:
            self._tail[...] = 0
        for shard in range(-(-len(losses) // self._micro_rows)):
            self._model.write_gradients(shard)
            shifted = self._shifted if self._shards else self._whole.view(np.float64)
            np.copyto(shifted, self._shard)  # on its own, as a sum of mixed types converts piece by piece
            shifted += _SHIFT
            if self._shards:
                self._whole += shifted.view(np.int64)
            self._shards += 1
            self._find_beyond(self._shard)
        self._row_sums += self.row_sums(losses, right)

    def sum_up(self, stop: bool) -> bool:
        """Fill `grads` and `sums` with the sums over all shards of all ranks; returns whether any rank says stop.

        If `not_finite` then names something, the sums are worth nothing.
        """
        if not self._shards:
            self.vector.fill(0)
        self._tail[-2:] = self._shards, stop
        self._shards = 0
        self._comm.allreduce_(self.vector)
        # Each shard has brought a shift along, and one is to stay. Integers wrap around: any number of them goes away.
        self._whole -= np.array((int(self._tail[-2]) - 1) * _SHIFT_BITS % 2**64, np.uint64).view(np.int64)
        sums = self._whole.view(np.float64)
        sums -= _SHIFT
        np.copyto(self.grads, sums, casting="same_kind")
        self._find_beyond(self.grads)
        self.sums[...] = self.figures(self._row_sums)
        return bool(self._tail[-1])

    def not_finite(self) -> str | None:
        """What is wrong if a number could not be added up, else None: the same on every rank."""
        names = [f"the gradient of {name}" for name, beyond in zip(self._slices, self._beyond, strict=True) if beyond]
        names += ["the loss"] * bool(self._row_sums[3])
        return f"{names[0]} is not a finite number below {_LIMIT:g}, the most that adds up exactly," if names else None

    def _find_beyond(self, gradient: Array) -> None:
        """Note the parameters of which a component has no place on the grid."""
        # Written so that it is true of what is not a number. The quick look at all is the usual case.
        if not np.dot(gradient, gradient) < _LIMIT**2:
            self._beyond += [not np.abs(gradient[part]).max() < _LIMIT for part in self._slices.values()]
