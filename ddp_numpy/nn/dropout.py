"""Dropout."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.randomness import RowStream
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Layer, Shape


class Dropout(Layer):
    """In training each number becomes 0 at random, and those that stay are divided by the share that stays.

    So the sums behind it are the same on average, and evaluation passes rows on as they are (Srivastava et al., JMLR
    15, 2014). What a row loses depends on the seed, the step, the layer and the row's number in its global batch, so
    it is the same on any number of ranks. Y = mask * X, so dX = mask * dY.
    """

    outputs: RowBuffer
    input_gradients: RowBuffer

    def __init__(self, rate: float = 0.5) -> None:
        """rate: the share that becomes 0. Raises InputError unless it is a number from 0 to 0.99."""
        schema.check(rate, schema.Real(0, 0.99), "Dropout: rate")
        self.rate = float(rate)

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self._row_axes, self._numbers = len(input_shape), math.prod(input_shape)
        self.outputs, self.input_gradients = RowBuffer(input_shape, dtype), RowBuffer(input_shape, dtype)
        self._draws = RowBuffer((RowStream.whole(self._numbers),), np.float32)
        self._keeps, self._mask = RowBuffer((self._numbers,), np.bool_), RowBuffer(input_shape, dtype)
        self._stream: RowStream | None = None
        self._drops = False
        return input_shape

    def config(self) -> dict[str, Any]:
        return {"rate": self.rate}

    def __str__(self) -> str:
        return f"dropout {self.rate:g}"

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *shape) -> Y, of X's shape."""
        self._drops = context.training and self.rate > 0
        if not self._drops:
            return X
        counts = X.shape[: X.ndim - self._row_axes]
        if self._stream is None or self._stream.seed != context.seed:
            self._stream = RowStream(context.seed, "dropout", self.number)
        rows, mask = math.prod(counts), self._mask.rows(*counts)
        draws, keeps = self._draws.rows(rows), self._keeps.rows(rows)
        self._stream.fill(draws, context.step, context.first_row)
        np.greater_equal(draws[:, : self._numbers], self.rate, out=keeps)
        np.copyto(mask.reshape(keeps.shape), keeps)
        mask *= 1 / (1 - self.rate)
        Y: Array = np.multiply(X, mask, out=self.outputs.rows(*counts))
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *shape) -> dX, of dY's shape."""
        if not self._drops:
            return dY
        counts = dY.shape[: dY.ndim - self._row_axes]
        dX: Array = np.multiply(dY, self._mask.rows(*counts), out=self.input_gradients.rows(*counts))
        return dX
