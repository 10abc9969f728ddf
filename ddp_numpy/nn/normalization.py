"""Normalizations: numbers with a mean of 0 and a variance of 1, scaled and shifted again by what is learnt.

Both layers make xhat = (X - mean) / sqrt(variance + epsilon) and Y = gamma xhat + beta; they differ in what mean and
variance are taken over. There Y depends on each X by itself, and by way of mean and variance. With g = gamma dY, what
comes back is dX = (g - mean(g) - xhat mean(g xhat)) / sqrt(variance + epsilon): the part of g that is left if X may
neither be shifted nor scaled.
"""

import math
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Layer, Shape


class Normalization(Layer):
    """What both have: gamma and beta of each channel, the last axis of a row, and memory.

    Within a layer the rows of a shard are N lines of C channels: (S, N, C), with S = 1 if rows come in no shards.
    """

    gamma: Array  # (C,)
    beta: Array  # (C,)
    dgamma: Array
    dbeta: Array
    outputs: RowBuffer
    input_gradients: RowBuffer

    def __init__(self, epsilon: float = 1e-5) -> None:
        """epsilon: what is added to the variance, so that nothing is divided by 0."""
        schema.check(epsilon, schema.Real(1e-30, 1), f"{type(self).__name__}: epsilon")
        self.epsilon = float(epsilon)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"gamma": input_shape[-1:], "beta": input_shape[-1:]}

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self._row_axes, self._channels = len(input_shape), input_shape[-1]
        self._lines = math.prod(input_shape[:-1])  # of a row
        self.outputs, self.input_gradients = RowBuffer(input_shape, dtype), RowBuffer(input_shape, dtype)
        self._kept, self._products = RowBuffer(input_shape, dtype), RowBuffer(input_shape, dtype)
        return input_shape

    def initialize(self, rng: np.random.Generator) -> None:
        self.gamma[...] = 1

    def config(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}

    def __str__(self) -> str:
        return type(self).__name__

    def _counts(self, X: Array) -> tuple[int, ...]:
        """How many rows X has, (B,) or (S, B)."""
        return X.shape[: X.ndim - self._row_axes]

    def _in_lines(self, X: Array) -> Array:
        """X as (S, N, C)."""
        return X.reshape(*self._shards_and_lines(self._counts(X)), self._channels)

    def _shards_and_lines(self, counts: tuple[int, ...]) -> tuple[int, int]:
        """(B,) or (S, B) -> S and N."""
        return math.prod(counts[:-1]), counts[-1] * self._lines

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Fill dgamma and dbeta (C,) with the sums of dY xhat and of dY."""
        for sums, gradient in zip(self._gradient_sums, (self.dgamma, self.dbeta), strict=True):
            if shard is ...:
                np.add.reduce(sums, axis=0, out=gradient)
            else:
                np.copyto(gradient, sums[shard])

    _gradient_sums: tuple[Array, Array]
    """Of dY xhat and of dY, over the lines of each shard: (S, C)."""


class BatchNorm(Normalization):
    """Mean and variance of each channel over all rows of the global batch, and over all pixels of images.

    Ioffe and Szegedy, ICML 2015, arXiv:1502.03167. All ranks' rows count, each once, so the number of ranks changes
    nothing. The variance is taken in a second pass, of the differences from the mean: E[x^2] - E[x]^2 would lose
    digits. Evaluation takes running means of both, which move by `momentum` of the way at each step of training; that
    of the variance is unbiased, n / (n - 1) times the variance of n numbers.
    """

    joins_rows = True
    running_mean: Array  # (C,)
    running_variance: Array  # (C,)

    def __init__(self, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__(epsilon)
        schema.check(momentum, schema.Real(0, 1), "BatchNorm: momentum")
        self.momentum = float(momentum)

    def config(self) -> dict[str, Any]:
        return {"momentum": self.momentum, **super().config()}

    def buffer_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"running_mean": input_shape[-1:], "running_variance": input_shape[-1:]}

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shape = super().build(input_shape, dtype)
        # The mean of a single number is this number, and nothing would be left.
        self.least_rows = 2 if self._lines == 1 else 1
        self._counted = RowBuffer((self._lines,), dtype, fill=1)
        self._numbers = self._lines * self._channels
        self._row = np.empty(self._numbers, dtype)
        return shape

    def initialize(self, rng: np.random.Generator) -> None:
        super().initialize(rng)
        self.running_variance[...] = 1

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *shape) -> Y, of X's shape. Collective in training."""
        counts, lines = self._counts(X), self._in_lines(X)
        self._training = context.training
        self._mark(counts, context.rows if context.training else math.prod(counts))
        rows, centred, Y = (
            X.reshape(math.prod(counts), self._numbers),
            self._in_rows(self._kept, counts),
            self.outputs.rows(*counts),
        )
        if context.training:
            self._n, self._sum_rows = context.global_rows * self._lines, context.sum_rows
            # Divided before they are added up: what is summed without an order has to be of moderate size.
            mean = self._sum(self._sums(lines) / self._n)
            np.subtract(rows, self._wide(mean), out=centred)
            squares = np.multiply(centred, centred, out=self._in_rows(self._products, counts))
            variance = self._sum(self._sums(squares.reshape(lines.shape)) / self._n)
            unbiased = variance * (self._n / (self._n - 1))
            self.running_mean += self.momentum * (mean - self.running_mean)
            self.running_variance += self.momentum * (unbiased - self.running_variance)
        else:
            variance = self.running_variance
            np.subtract(rows, self._wide(self.running_mean), out=centred)
        self._scale = 1 / np.sqrt(variance + self.epsilon)
        Y_rows = np.multiply(centred, self._wide(self.gamma * self._scale), out=Y.reshape(rows.shape))
        Y_rows += self._wide(self.beta)
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *shape) -> dX, of dY's shape. Collective after a forward of training.

        With xhat = scale (X - mean), dX = gamma scale dY - gamma scale mean(dY) - xhat gamma scale mean(dY xhat).
        """
        counts, lines = self._counts(dY), self._in_lines(dY)
        rows, centred = dY.reshape(math.prod(counts), self._numbers), self._in_rows(self._kept, counts)
        products = np.multiply(rows, centred, out=self._in_rows(self._products, counts))
        self._gradient_sums = self._sums(products.reshape(lines.shape)) * self._scale, self._sums(lines)
        if not input_gradient:
            return None
        dX, gain = self.input_gradients.rows(*counts), self.gamma * self._scale
        dX_rows = np.multiply(rows, self._wide(gain), out=dX.reshape(rows.shape))
        if self._training:
            product_mean, mean = (self._sum(sums) / self._n for sums in self._gradient_sums)
            dX_rows -= self._wide(gain * mean)
            dX_rows -= np.multiply(centred, self._wide(gain * self._scale * product_mean), out=products)
            dX_rows[self._rows :] = 0
        return dX

    def _in_rows(self, buffer: RowBuffer, counts: tuple[int, ...]) -> Array:
        """A buffer's memory as (rows, numbers of a row)."""
        return buffer.rows(*counts).reshape(math.prod(counts), self._numbers)

    def _wide(self, channels: Array) -> Array:
        """A number of each channel (C,) again and again, for all numbers of a row; in memory that the next call takes.

        With rows of this length NumPy makes few steps: with those of a few channels it takes three times as long.
        """
        np.copyto(self._row.reshape(self._lines, self._channels), channels)
        return self._row

    def _mark(self, counts: tuple[int, ...], rows: int) -> None:
        """Note how many of the rows count; those behind them only fill a micro-shard up."""
        self._in_shards, self._rows = len(counts) == 2, rows
        marks = self._counted.rows(*counts)
        marks.reshape(-1)[: rows * self._lines] = 1
        marks.reshape(-1)[rows * self._lines :] = 0
        shards, lines = self._shards_and_lines(counts)
        self._marks = marks.reshape(shards, 1, lines)

    def _sums(self, lines: Array) -> Array:
        """(S, N, C) -> the sums of each shard's lines that count, (S, C)."""
        sums: Array = np.matmul(self._marks, lines)[:, 0]
        return sums

    def _sum(self, sums: Array) -> Array:
        """The sums of each shard (S, C) -> those of the global batch (C,)."""
        return self._sum_rows(sums if self._in_shards else sums[0])


class LayerNorm(Normalization):
    """Mean and variance over the channels of each line by itself: no row knows of another.

    Ba, Kiros and Hinton, arXiv:1607.06450.
    """

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shape = super().build(input_shape, dtype)
        # A product with these is a mean, in half the time of np.mean.
        self._average = np.full((self._channels, 1), 1 / self._channels, dtype)
        self._ones = RowBuffer((self._lines,), dtype, fill=1)
        self._means, self._scale, self._product_means = (RowBuffer((self._lines,), dtype) for _ in range(3))
        return shape

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *shape) -> Y, of X's shape."""
        counts, lines = self._counts(X), self._in_lines(X)
        xhat, scale = self._kept.rows(*counts).reshape(lines.shape), self._of_lines(self._scale, counts)
        np.subtract(lines, np.matmul(lines, self._average, out=self._of_lines(self._means, counts)), out=xhat)
        squares = np.multiply(xhat, xhat, out=self._products.rows(*counts).reshape(lines.shape))
        np.matmul(squares, self._average, out=scale)
        scale += self.epsilon
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        xhat *= scale
        Y = self.outputs.rows(*counts)
        np.multiply(xhat, self.gamma, out=Y.reshape(lines.shape))
        Y += self.beta
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *shape) -> dX, of dY's shape."""
        counts, lines = self._counts(dY), self._in_lines(dY)
        xhat = self._kept.rows(*counts).reshape(lines.shape)
        products = np.multiply(lines, xhat, out=self._products.rows(*counts).reshape(lines.shape))
        ones = self._ones.rows(*counts).reshape(len(lines), 1, lines.shape[1])
        self._gradient_sums = np.matmul(ones, products)[:, 0], np.matmul(ones, lines)[:, 0]
        if not input_gradient:
            return None
        dX = self.input_gradients.rows(*counts)
        g = np.multiply(lines, self.gamma, out=dX.reshape(lines.shape))
        np.multiply(g, xhat, out=products)
        mean = np.matmul(g, self._average, out=self._of_lines(self._means, counts))
        product_mean = np.matmul(products, self._average, out=self._of_lines(self._product_means, counts))
        g -= mean
        g -= np.multiply(xhat, product_mean, out=products)
        g *= self._of_lines(self._scale, counts)
        return dX

    def _of_lines(self, buffer: RowBuffer, counts: tuple[int, ...]) -> Array:
        """Memory for a number of each line, (S, N, 1)."""
        return buffer.rows(*counts).reshape(*self._shards_and_lines(counts), 1)
