"""Losses of predictions that are numbers: see Loss for what each of them does."""

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.context import Array
from ddp_numpy.nn.layers import MOST_NUMBERS


class _Regression:
    """What these losses share. With the errors E = predictions - y, a row's loss is the mean of f(E) over its outputs.

    One output of one row changes the mean over the batch by f'(E) / (outputs * global rows).
    """

    def __init__(self, outputs: int, dtype: npt.DTypeLike) -> None:
        """Raises InputError unless outputs is a whole number above 0."""
        schema.check(outputs, schema.Whole(1, MOST_NUMBERS), f"{type(self).__name__}: outputs")
        self._outputs = int(outputs)
        self.gradients = RowBuffer((self._outputs,), dtype)
        """Where backward writes what it returns. A caller may lend it other memory."""
        self._errors = RowBuffer((self._outputs,), dtype)
        self._values = RowBuffer((self._outputs,), dtype)
        self._losses = RowBuffer((), dtype)
        self._squares = RowBuffer((), dtype)
        self._ones = np.ones(self._outputs, dtype)

    def _function(self, E: Array, out: Array) -> None:
        """Fill out with f(E)."""
        raise NotImplementedError

    def _slope(self, E: Array, out: Array) -> None:
        """Fill out with f'(E)."""
        raise NotImplementedError

    def forward(self, predictions: Array, y: Array, rows: int | None = None) -> tuple[Array, Array]:
        """predictions (B, outputs), y (B, outputs) or, for one output, (B,) -> losses and squared errors, both (rows,).

        A row's squared error is the mean over its outputs. Shards and rows: see Loss. Raises InputError if y has
        another shape.
        """
        counts, B = predictions.shape[:-1], predictions.size // self._outputs
        if y.shape != (B, self._outputs) and (self._outputs, y.shape) != (1, (B,)):
            raise InputError(f"y has the shape {y.shape}, and must have ({B}, {self._outputs}), like the predictions")
        self._counts, self._rows = counts, B if rows is None else rows
        E, values = self._errors.rows(*counts), self._values.rows(*counts)
        losses, squares = self._losses.rows(*counts), self._squares.rows(*counts)
        np.subtract(predictions, y.reshape(predictions.shape), out=E, casting="same_kind")
        with np.errstate(over="ignore"):  # of Huber's large errors, whose losses are finite
            np.multiply(E, E, out=values)
        for function, means in ((None, squares), (self._function, losses)):
            if function is not None:
                function(E, values)
            np.matmul(values, self._ones, out=means)  # each row's sum
            means /= self._outputs
        return losses.reshape(B)[: self._rows], squares.reshape(B)[: self._rows]

    def backward(self, global_rows: int) -> Array:
        """The gradient of the mean loss over global_rows rows, in the predictions' shape: see Loss."""
        dP = self.gradients.rows(*self._counts)
        self._slope(self._errors.rows(*self._counts), dP)
        dP /= self._outputs * global_rows
        dP.reshape(-1, self._outputs, copy=False)[self._rows :] = 0
        return dP


class MeanSquaredError(_Regression):
    """f(E) = E^2, so f'(E) = 2 E."""

    def __str__(self) -> str:
        return "mean squared error"

    def _function(self, E: Array, out: Array) -> None:
        np.multiply(E, E, out=out)

    def _slope(self, E: Array, out: Array) -> None:
        np.add(E, E, out=out)


class Huber(_Regression):
    """f(E) = E^2 / 2 up to |E| = delta, and from there on a straight line: delta (|E| - delta / 2).

    So an outlier pulls no harder than an error of delta does (P. J. Huber, Annals of Mathematical Statistics 35, 1964).

    With C the error cut to -delta..delta, this is f(E) = C (E - C / 2), and f'(E) = C. Example, delta = 1: an error
    of -3 has C = -1 and the loss -1 (-3 + 0.5) = 2.5, which is 1 (3 - 0.5).
    """

    def __init__(self, outputs: int, dtype: npt.DTypeLike, delta: float = 1.0) -> None:
        """Raises InputError unless outputs is a whole number above 0, and delta a number from 1e-30 to 1e30."""
        super().__init__(outputs, dtype)
        schema.check(delta, schema.Real(1e-30, 1e30), "Huber: delta")
        self._delta = float(delta)
        self._cut = RowBuffer((self._outputs,), dtype)

    def __str__(self) -> str:
        return f"Huber loss, delta {self._delta:g}"

    def _function(self, E: Array, out: Array) -> None:
        C = self._cut.rows(*self._counts)
        self._slope(E, C)
        np.multiply(C, -0.5, out=out)
        out += E
        out *= C

    def _slope(self, E: Array, out: Array) -> None:
        np.minimum(E, self._delta, out=out)
        np.maximum(out, -self._delta, out=out)
