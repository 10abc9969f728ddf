"""Activations: functions that each number goes through on its own.

If Y = f(X) number by number, X[i] changes the loss only through Y[i]: dX = f'(X) dY. So an activation is a formula and
its derivative, and stands here as these two.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.nn import normal
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Layer, Shape

_PIECE = 16384
"""Numbers that go through a whole formula before the next ones: its intermediate results then stay in a cache.

With 8192, and images of 28 x 28 x 16 numbers, GELU takes 1.3 times as long: more calls of NumPy.
"""


_AT_ONCE = 65_536
"""The same for the few, cheap operations of ReLU."""


class Activation(Layer):
    """What all activations share: memory, and the way through the rows piece by piece.

    A subclass has `function` and `slope`. Their arrays are runs (n,) of the same n numbers. They use elementwise
    operations alone, so that a number has the same bits wherever it stands. Intermediate results may overflow to
    infinity without a warning, if then the result is right.
    """

    keeps = False
    """Whether `function` keeps something for `slope`, a number for each of X's. If not, `kept` is Y."""
    scratch = 0
    """How many runs of scratch memory `function` needs."""
    outputs: RowBuffer
    input_gradients: RowBuffer

    def function(self, X: Array, Y: Array, kept: Array, scratch: Array) -> None:
        """Fill Y with f(X); perhaps fill kept. scratch: (self.scratch, n)."""
        raise NotImplementedError

    def slope(self, Y: Array, kept: Array, out: Array) -> Array:
        """f'(X), from what `function` filled: written into out, or in another array that has it already."""
        raise NotImplementedError

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self._row_axes = len(input_shape)
        self.outputs = RowBuffer(input_shape, dtype)
        self.input_gradients = RowBuffer(input_shape, dtype)
        self._kept = RowBuffer(input_shape, dtype)
        self._scratch = np.empty((self.scratch, _PIECE), dtype)
        return input_shape

    def __str__(self) -> str:
        defaults = type(self)().config()
        arguments = ", ".join(f"{name}={value}" for name, value in self.config().items() if value != defaults[name])
        return type(self).__name__ + (f"({arguments})" if arguments else "")

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *shape) -> Y, of X's shape."""
        rows = X.shape[: -self._row_axes]
        Y = self.outputs.rows(*rows)
        x, y, kept = X.reshape(-1), _run(Y), self._kept_run(rows)
        with np.errstate(over="ignore"):
            for start in range(0, len(x), _PIECE):
                piece = slice(start, start + _PIECE)
                self.function(x[piece], y[piece], kept[piece], self._scratch[:, : len(x) - start])
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *shape) -> dX, of dY's shape."""
        if not input_gradient:
            return None
        rows = dY.shape[: -self._row_axes]
        dX = self.input_gradients.rows(*rows)
        y, kept, dy, dx = _run(self.outputs.rows(*rows)), self._kept_run(rows), dY.reshape(-1), _run(dX)
        for start in range(0, len(dy), _PIECE):
            piece = slice(start, start + _PIECE)
            np.multiply(self.slope(y[piece], kept[piece], dx[piece]), dy[piece], out=dx[piece])
        return dX

    def _kept_run(self, rows: tuple[int, ...]) -> Array:
        return _run((self._kept if self.keeps else self.outputs).rows(*rows))


def _run(array: Array) -> Array:
    """All numbers of an array that is written to, as a view (n,)."""
    return array.reshape(-1, copy=False)


class ReLU(Activation):
    """Y = max(X, 0); its derivative at 0 is taken as 0.

    Its operations are cheap, so small arrays go through them whole.
    """

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self._zeros = RowBuffer((), dtype, fill=0)  # twice as fast to compare with as one number
        self._positive = RowBuffer((), np.bool_)
        return super().build(input_shape, dtype)

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *shape) -> Y, of X's shape."""
        Y = self.outputs.rows(*X.shape[: -self._row_axes])
        for x, y in _runs(X, Y):
            np.maximum(x, self._zeros.rows(*x.shape), out=y)
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *shape) -> dX, of dY's shape."""
        rows = dY.shape[: -self._row_axes]
        dX = self.input_gradients.rows(*rows)
        for dx, dy, y in _runs(dX, dY, self.outputs.rows(*rows)):
            positive = self._positive.rows(*y.shape)
            np.greater(y, self._zeros.rows(*y.shape), out=positive)
            np.copyto(dx, positive)  # on its own, as a product of mixed types converts piece by piece
            np.multiply(dx, dy, out=dx)
        return dX


class LeakyReLU(Activation):
    """Y = X above 0, and slope X else (Maas et al., ICML workshop 2013). Its derivative is 1 above 0, and slope else.

    As the slope is not above 1, Y is the larger of the two.
    """

    def __init__(self, slope: float = 0.01) -> None:
        """Raises InputError unless slope is a number from 0 to 1."""
        schema.check(slope, schema.Real(0, 1), "LeakyReLU: slope")
        self._slope = float(slope)

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self._positive = np.empty(_PIECE, np.bool_)
        self._slopes = np.full(_PIECE, self._slope, dtype)  # np.maximum with one number takes three times as long
        return super().build(input_shape, dtype)

    def config(self) -> dict[str, Any]:
        return {"slope": self._slope}

    def function(self, X: Array, Y: Array, kept: Array, scratch: Array) -> None:
        np.multiply(X, self._slope, out=Y)
        np.maximum(X, Y, out=Y)

    def slope(self, Y: Array, kept: Array, out: Array) -> Array:
        np.copyto(out, np.greater(Y, 0, out=self._positive[: len(Y)]))
        np.maximum(out, self._slopes[: len(out)], out=out)
        return out


class Sigmoid(Activation):
    """Y = 1 / (1 + exp(-X)); its derivative is Y (1 - Y)."""

    def function(self, X: Array, Y: Array, kept: Array, scratch: Array) -> None:
        _sigmoid(X, Y)

    def slope(self, Y: Array, kept: Array, out: Array) -> Array:
        np.subtract(1, Y, out=out)
        out *= Y
        return out


class Tanh(Activation):
    """Y = tanh(X); its derivative is 1 - Y^2."""

    def function(self, X: Array, Y: Array, kept: Array, scratch: Array) -> None:
        np.copyto(Y, X)  # which is contiguous. For numbers that are not, NumPy may run other code, with other bits.
        np.tanh(Y, out=Y)

    def slope(self, Y: Array, kept: Array, out: Array) -> Array:
        np.multiply(Y, Y, out=out)
        np.subtract(1, out, out=out)
        return out


class SiLU(Activation):
    """Y = X S with S = sigmoid(X), also called swish (arXiv:1606.08415, arXiv:1710.05941).

    Its derivative is S + X S' = S + X S (1 - S) = S + Y (1 - S).
    """

    keeps = True  # S

    def function(self, X: Array, Y: Array, kept: Array, scratch: Array) -> None:
        np.multiply(X, _sigmoid(X, kept), out=Y)

    def slope(self, Y: Array, kept: Array, out: Array) -> Array:
        np.subtract(1, kept, out=out)
        out *= Y
        out += kept
        return out


class GELU(Activation):
    """Y = X Phi(X), with Phi(x) the probability that a normal number is below x (Hendrycks, Gimpel, arXiv:1606.08415).

    Its derivative is Phi(X) + X phi(X), as Phi' is the density phi. Both need exp(-X^2 / 2), so `function` makes the
    derivative too, and keeps it.

    approximate: with Phi(x) as (1 + tanh(z)) / 2, z = sqrt(2 / pi) (x + 0.044715 x^3), which differs by less than 3e-4.
    This is sigmoid(2 z) = S, and its derivative is S (1 - S) 2 z'.
    """

    keeps = True  # the derivative
    scratch = 1 + normal.SCRATCH

    def __init__(self, approximate: bool = False) -> None:
        """Raises InputError unless approximate is true or false."""
        schema.check(approximate, bool, "GELU: approximate")
        self._approximate = approximate

    def config(self) -> dict[str, Any]:
        return {"approximate": self._approximate}

    def function(self, X: Array, Y: Array, kept: Array, scratch: Array) -> None:
        Phi = scratch[0]
        if self._approximate:
            _near_cdf_and_density(X, Phi, kept, scratch[1])
        else:
            normal.cdf_and_density(X, Phi, kept, scratch[1:])
        np.multiply(X, Phi, out=Y)
        kept *= X
        kept += Phi

    def slope(self, Y: Array, kept: Array, out: Array) -> Array:
        return kept


def _runs(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Contiguous arrays of one shape: whole, or the same runs of all, each short enough to stay in a cache."""
    if arrays[0].size <= _AT_ONCE:
        yield arrays
        return
    flat = [array.reshape(-1) for array in arrays]
    for start in range(0, flat[0].size, _AT_ONCE):
        yield tuple(array[start : start + _AT_ONCE] for array in flat)


def _sigmoid(X: Array, out: Array) -> Array:
    """1 / (1 + exp(-X)). If exp overflows to infinity, the quotient is 0, as it should be."""
    np.negative(X, out=out)
    np.exp(out, out=out)
    out += 1
    return np.divide(1, out, out=out)


_MOST_SQUARE = 22.0**2
"""At |x| = 22, exp(2 z) overflows in float64, so S is 0 or 1 from there on, whatever z is."""


def _near_cdf_and_density(X: Array, cdf: Array, density: Array, scratch: Array) -> None:
    """X (n,) -> S in cdf (n,), and S (1 - S) 2 z' in density (n,): see GELU. scratch: (n,)."""
    linear = math.sqrt(8 / math.pi)
    cubic = 0.044715 * linear
    np.multiply(X, X, out=density)
    np.minimum(density, _MOST_SQUARE, out=density)  # else 2 z' may be infinite, and infinity times 0 is no number
    density *= cubic
    np.add(density, linear, out=cdf)
    cdf *= X  # 2 z
    _sigmoid(cdf, cdf)
    density *= 3
    density += linear  # 2 z'
    density *= cdf
    np.subtract(1, cdf, out=scratch)
    density *= scratch
