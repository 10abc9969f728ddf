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


class FloatExchange:
    """Sums in floating point: equal on all ranks, and on any number of ranks up to rounding."""

    def __init__(self, comm: Communicator, model: Sequential, sums: int, in_pieces: bool) -> None:
        """sums: how many numbers the loss adds up; in_pieces: whether a rank may add more than one piece."""
        parameters = model.params.size
        self.vector = comm.empty(parameters + sums + 1, model.dtype)
        self.grads, self.sums = self.vector[:parameters], self.vector[parameters:-1]
        self._piece = np.zeros_like(self.vector) if in_pieces else self.vector
        self.piece_sums = self._piece[parameters:-1]
        model.attach_grads(self._piece[:parameters])
        self._comm, self._pieces = comm, 0

    def add_piece(self) -> None:
        """Add what backward wrote into the model's gradients, and the loss into `piece_sums`."""
        if self._pieces:
            np.add(self.vector, self._piece, out=self.vector)
        elif self._piece is not self.vector:
            np.copyto(self.vector, self._piece)
        self._pieces += 1

    def sum_up(self, stop: bool, pieces: int) -> bool:
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
    """Sums without an order: each piece is rounded to multiples of 2^-40, which add up exactly as 64-bit integers."""

    def __init__(self, comm: Communicator, model: Sequential, sums: int) -> None:
        """sums: how many numbers the loss adds up: the loss, and then whole numbers."""
        parameters = model.params.size
        self._slices = model.parameter_slices()
        self._names = [*(f"the gradient of {name}" for name in self._slices), "the loss"]
        self.vector = comm.empty(parameters + sums + len(self._names) + 1, np.int64)
        self._whole, self._whole_sums = self.vector[:parameters], self.vector[parameters : parameters + sums]
        self._out_of_range = self.vector[parameters + sums : -1]
        self.grads, self.sums = np.empty(parameters, model.dtype), np.zeros(sums)
        self._piece, self.piece_sums = np.empty(parameters, model.dtype), np.zeros(sums)
        model.attach_grads(self._piece)
        self._comm, self._pieces = comm, 0
        self._shifted = np.empty(parameters)

    def add_piece(self) -> None:
        """Add what backward wrote into the model's gradients, and the loss into `piece_sums`."""
        if not self._pieces:
            self.vector[self.grads.size :] = 0
        # Written so that it is true of what is not a number.
        if not np.dot(self._piece, self._piece) < _LIMIT**2:
            self._out_of_range[:-1] += [not np.abs(self._piece[part]).max() < _LIMIT for part in self._slices.values()]
        shifted = self._shifted if self._pieces else self._whole.view(np.float64)
        np.copyto(shifted, self._piece)  # on its own, as a sum of mixed types converts piece by piece
        shifted += _SHIFT
        if self._pieces:
            self._whole += shifted.view(np.int64)
        self._pieces += 1
        if abs(self.piece_sums[0]) < _LIMIT**2:
            self._whole_sums += to_grid(self.piece_sums)
        else:
            self._out_of_range[-1] += 1

    def sum_up(self, stop: bool, pieces: int) -> bool:
        """Fill `grads` and `sums` with the sums over all pieces of all ranks; returns whether any rank says stop.

        pieces: how many they are. If `not_finite` then names something, the sums are worth nothing.
        """
        if not self._pieces:
            self.vector.fill(0)
        self._pieces = 0
        self.vector[-1] = stop
        self._comm.allreduce_(self.vector)
        # Integers wrap around, so that what so many shifts added up to goes away again whatever it was.
        self._whole -= np.array(pieces * _SHIFT_BITS % 2**64, np.uint64).view(np.int64)
        np.multiply(self._whole, _GRID, out=self.grads, casting="same_kind")
        self.sums[...] = from_grid(self._whole_sums)
        return bool(self.vector[-1])

    def not_finite(self) -> str | None:
        """What is wrong if some rank had a piece that can't be added up, else None: the same on every rank."""
        if not self._out_of_range.any():
            return None
        name = self._names[int(np.argmax(self._out_of_range > 0))]
        return f"{name} is not a finite number below {_LIMIT:g}, the most that adds up exactly,"


def to_grid(sums: Array) -> npt.NDArray[np.int64]:
    """Loss sums as integers: the loss in multiples of 2^-40, what is counted as it is."""
    whole = np.rint(sums).astype(np.int64)
    whole[0] = round(float(sums[0]) / _GRID)
    return whole


def from_grid(whole: npt.NDArray[np.int64]) -> Array:
    """Loss sums again of what `to_grid` made, added up."""
    sums = whole.astype(np.float64)
    sums[0] *= _GRID
    return sums
