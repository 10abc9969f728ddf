"""Pools: of the pixels under each window, the largest or the mean.

Shapes: images (B, H, W, C) become (B, H', W', C), or (B, C); also in shards, (shards, B, …). Each channel of each image
goes on its own.

A window's largest pixel is the largest of its rows' largest pixels, and its sum is the sum of its rows' sums. So a pool
goes along columns first and then along rows: of KW and then of KH pixels, not of KH KW.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Layer, Shape
from ddp_numpy.nn.windows import Padding, Pair, as_config, as_padding, as_pair, not_images, times, windows


class _Pool2D(Layer):
    """A pool of windows: what the two of them share."""

    outputs: RowBuffer
    input_gradients: RowBuffer
    _word: str
    _border: float  # the pixels of padding

    def __init__(
        self, size: int | list[int] | Pair = 2, stride: int | list[int] | Pair | None = None, padding: Padding = "valid"
    ) -> None:
        """size, stride: of rows and columns alike, or a pair; without a stride, windows stand side by side.

        padding: "same" for ceil(H / stride) windows, "valid" for none, or a number of pixels on each side. Raises
        InputError for any other value, and for windows that may lie on padding alone.
        """
        name = type(self).__name__
        self.size = as_pair(size, f"{name}: size")
        self.stride = self.size if stride is None else as_pair(stride, f"{name}: stride")
        self.padding = as_padding(padding, f"{name}: padding")
        if isinstance(self.padding, int) and self.padding >= min(self.size):
            raise InputError(f"{name}: padding is {self.padding}, and must be less than size")

    def config(self) -> dict[str, Any]:
        return {"size": as_config(self.size), "stride": as_config(self.stride), "padding": self.padding}

    def __str__(self) -> str:
        return f"{self._word}-pool {times(self.size)}"

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        where = f"layer {self.number} ({type(self).__name__})"
        self._windows = windows(where, input_shape, self.size, self.stride, self.padding)
        (height, width), channels = self._windows.outputs, input_shape[2]
        padded = (*self._windows.padded, channels)
        self.outputs = RowBuffer((height, width, channels), dtype)
        self.input_gradients = RowBuffer(input_shape, dtype)
        self._bordered = self._windows.padded != self._windows.inputs
        self._padded = RowBuffer(padded, dtype, fill=self._border)
        self._padded_gradients = RowBuffer(padded, dtype)
        self._of_rows = RowBuffer((padded[0], width, channels), dtype)
        self._of_rows_gradients = RowBuffer((padded[0], width, channels), dtype)
        return height, width, channels

    def _take(self, X: Array) -> Array:
        """X (B, H, W, C), or shards of them -> images with their border, (B, *padded, C)."""
        images = X.reshape(-1, *X.shape[-3:])
        if not self._bordered:
            return images
        padded = self._padded.rows(len(images))
        np.copyto(self._windows.image(padded), images)
        return padded

    def _parts(self, images: Array, axis: int) -> list[Array]:
        """Of each window along rows (0) or columns (1): its first pixels, its second pixels, and so on."""
        lead = (slice(None),) * (axis + 1)
        return [images[(*lead, self._windows.along(axis, place))] for place in range(self.size[axis])]

    def _gradients(self, images: Array, axis: int) -> tuple[list[Array], bool]:
        """The parts of a gradient, and whether to add to them, as windows overlap. What no window has becomes 0."""
        size, stride = self.size[axis], self.stride[axis]
        if stride != size or images.shape[axis + 1] != size * self._windows.outputs[axis]:
            images.fill(0)
        return self._parts(images, axis), stride < size


class MaxPool2D(_Pool2D):
    """Y = the largest pixel under each window. It alone gets the window's dY: of equal ones the first in reading order.

    That is the first row that has the largest pixel, and the first pixel in it that is as large.
    """

    _word, _border = "max", -math.inf

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shape = super().build(input_shape, dtype)
        self._is_largest, self._chosen, self._left = (RowBuffer((), kind) for kind in (np.bool_, dtype, dtype))
        return shape

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y (B, H', W', C)."""
        self._X, outputs = self._take(X), self.outputs.rows(*X.shape[:-3])
        self._rows, self._Y = self._of_rows.rows(len(self._X)), outputs.reshape(-1, *outputs.shape[-3:])
        for axis, images, largest in ((1, self._X, self._rows), (0, self._rows, self._Y)):
            first, *others = self._parts(images, axis)
            np.copyto(largest, first)
            for part in others:
                np.maximum(largest, part, out=largest)
        return outputs

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, H', W', C) -> dX (B, H, W, C)."""
        if not input_gradient:
            return None
        gradients = self.input_gradients.rows(*dY.shape[:-3])
        dX = gradients.reshape(-1, *gradients.shape[-3:])
        padded = self._padded_gradients.rows(len(dX)) if self._bordered else dX
        of_rows = self._of_rows_gradients.rows(len(dX))
        self._choose(0, self._rows, self._Y, dY.reshape(self._Y.shape), of_rows)
        self._choose(1, self._X, self._rows, of_rows, padded)
        if self._bordered:
            np.copyto(dX, self._windows.image(padded))
        return gradients

    def _choose(self, axis: int, images: Array, largest: Array, dY: Array, dX: Array) -> None:
        """Fill dX with dY where the windows along this axis have their first largest pixels."""
        parts, add = self._gradients(dX, axis)
        count, left = dY.size, dY
        is_largest, chosen = (memory.rows(count).reshape(dY.shape) for memory in (self._is_largest, self._chosen))
        for part, gradient in zip(self._parts(images, axis)[:-1], parts[:-1], strict=True):
            np.equal(part, largest, out=is_largest)
            np.copyto(chosen, is_largest)
            chosen *= left
            np.add(gradient, chosen, out=gradient) if add else np.copyto(gradient, chosen)
            left = np.subtract(left, chosen, out=self._left.rows(count).reshape(dY.shape))  # 0 where it was chosen
        np.add(parts[-1], left, out=parts[-1]) if add else np.copyto(parts[-1], left)


class AvgPool2D(_Pool2D):
    """Y = the mean of the pixels under each window, so each of n pixels gets dY / n. Pixels of padding do not count."""

    _word, _border = "average", 0.0

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shape = super().build(input_shape, dtype)
        there = self._windows
        of_axes = []
        for axis in range(2):
            starts = np.arange(there.outputs[axis]) * there.stride[axis] - there.before[axis]
            ends = np.minimum(starts + there.kernel[axis], there.inputs[axis])
            of_axes.append(ends - np.maximum(starts, 0))
        self._inverse_counts = np.empty((*there.outputs, shape[2]), dtype)  # (H', W', C)
        self._inverse_counts[...] = 1 / (of_axes[0][:, None, None] * of_axes[1][:, None])
        self._means = RowBuffer(shape, dtype)
        return shape

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y (B, H', W', C)."""
        images, outputs = self._take(X), self.outputs.rows(*X.shape[:-3])
        of_rows, Y = self._of_rows.rows(len(images)), outputs.reshape(-1, *outputs.shape[-3:])
        for axis, pixels, total in ((1, images, of_rows), (0, of_rows, Y)):
            first, *others = self._parts(pixels, axis)
            np.copyto(total, first)
            for part in others:
                total += part
        Y *= self._inverse_counts
        return outputs

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, H', W', C) -> dX (B, H, W, C)."""
        if not input_gradient:
            return None
        gradients = self.input_gradients.rows(*dY.shape[:-3])
        dX = gradients.reshape(-1, *gradients.shape[-3:])
        padded = self._padded_gradients.rows(len(dX)) if self._bordered else dX
        of_rows, shares = self._of_rows_gradients.rows(len(dX)), self._means.rows(len(dX))
        np.multiply(dY.reshape(shares.shape), self._inverse_counts, out=shares)
        for axis, share, pixels in ((0, shares, of_rows), (1, of_rows, padded)):
            parts, add = self._gradients(pixels, axis)
            for part in parts:
                np.add(part, share, out=part) if add else np.copyto(part, share)
        if self._bordered:
            np.copyto(dX, self._windows.image(padded))
        return gradients


class GlobalAvgPool(Layer):
    """Y = the mean of all pixels of an image; each of H W pixels gets dY / (H W)."""

    outputs: RowBuffer
    input_gradients: RowBuffer

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        if len(input_shape) != 3:
            raise InputError(not_images(f"layer {self.number} (GlobalAvgPool)", input_shape))
        pixels, channels = math.prod(input_shape[:2]), input_shape[2]
        self.outputs, self.input_gradients = RowBuffer((channels,), dtype), RowBuffer(input_shape, dtype)
        self._shares = np.full((1, pixels), 1 / pixels, dtype)
        self._pixels = (pixels, channels)
        return (channels,)

    def __str__(self) -> str:
        return "average"

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y (B, C)."""
        Y = self.outputs.rows(*X.shape[:-3])
        np.matmul(self._shares, X.reshape(-1, *self._pixels), out=Y.reshape(-1, 1, Y.shape[-1]))
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, C) -> dX (B, H, W, C)."""
        if not input_gradient:
            return None
        dX = self.input_gradients.rows(*dY.shape[:-1])
        np.multiply(dY.reshape(-1, 1, dY.shape[-1]), self._shares[0, 0], out=dX.reshape(-1, *self._pixels))
        return dX
