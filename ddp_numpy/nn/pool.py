"""Pools: of the pixels under each window, the largest or the mean.

Shapes: images (B, H, W, C) become (B, H', W', C), or (B, C); also in shards, (shards, B, …). Each channel of each image
goes on its own.

The pixels at the first place of every window are copied into one array, those at the second place into the next, and so
on. All arithmetic is then on whole arrays, some images at a time, which the second cache holds. NumPy takes longer for
arithmetic on pixels that do not follow one another, and allocates memory for it.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import MOST_NUMBERS, Layer, Shape
from ddp_numpy.nn.windows import Padding, Pair, as_config, as_padding, as_pair, copy_runs, not_images, times, windows

_PIXEL_BYTES = 1024 * 1024  # of the pixels that are copied at a time; LOG: convolutions


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
        there = windows(where, input_shape, self.size, self.stride, self.padding)
        shape, padded = (*there.outputs, input_shape[2]), (*there.padded, input_shape[2])
        numbers = math.prod((*self.size, *shape))
        if numbers > MOST_NUMBERS:
            raise InputError(f"{where}: its windows have {numbers:,} numbers on an image; take a smaller size")
        self._windows = there
        self.outputs, self.input_gradients = RowBuffer(shape, dtype), RowBuffer(input_shape, dtype)
        self._bordered = there.padded != there.inputs
        self._overlap = any(step < size for step, size in zip(self.stride, self.size, strict=True))
        self._covered = all(there.padded[i] == self.size[i] * there.outputs[i] for i in range(2)) and not self._overlap
        self._padded = RowBuffer(padded, dtype, fill=self._border)
        self._padded_gradients = RowBuffer(padded, dtype)
        self._images = max(_PIXEL_BYTES // (numbers * np.dtype(dtype).itemsize), 1)
        self._places, self._part = RowBuffer(shape, dtype), RowBuffer(shape, dtype)
        return shape

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y (B, H', W', C)."""
        images, outputs = X.reshape(-1, *X.shape[-3:]), self.outputs.rows(*X.shape[:-3])
        Y = outputs.reshape(-1, *outputs.shape[-3:])
        if self._bordered:
            padded = self._padded.rows(len(images))
            np.copyto(self._windows.image(padded), images)
            images = padded
        under = self._by_place(images)
        for block in self._blocks(len(Y)):
            places = self._places.rows(*self.size, block.stop - block.start)
            copy_runs(places, under[:, :, block])
            self._pool(block, places, Y[block])
        return outputs

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, H', W', C) -> dX (B, H, W, C)."""
        if not input_gradient:
            return None
        gradients, dY = self.input_gradients.rows(*dY.shape[:-3]), dY.reshape(-1, *dY.shape[-3:])
        dX = gradients.reshape(-1, *gradients.shape[-3:])
        padded = self._padded_gradients.rows(len(dX)) if self._bordered else dX
        if not self._covered:
            padded.fill(0)
        under = self._by_place(padded)
        for block in self._blocks(len(dY)):
            places = self._places.rows(*self.size, block.stop - block.start)
            self._spread(block, dY[block], places)
            if self._overlap:
                self._add(places, under[:, :, block])
            else:
                copy_runs(under[:, :, block], places)
        if self._bordered:
            np.copyto(dX, self._windows.image(padded))
        return gradients

    def _by_place(self, padded: Array) -> Array:
        """(B, *padded, C) -> the pixels at each place of the windows, (KH, KW, B, H', W', C): a view."""
        return self._windows.under(padded).transpose(3, 4, 0, 1, 2, 5)

    def _blocks(self, count: int) -> Iterator[slice]:
        for start in range(0, count, self._images):
            yield slice(start, min(start + self._images, count))

    def _add(self, places: Array, under: Array) -> None:
        """Add the gradients at each place of the windows to those of the pixels, place by place."""
        for place in np.ndindex(*self.size):
            total = self._part.rows(places.shape[2])
            np.copyto(total, under[place])
            total += places[place]
            np.copyto(under[place], total)

    def _pool(self, block: slice, places: Array, Y: Array) -> None:
        """Places (KH, KW, b, H', W', C) -> Y (b, H', W', C) of some images."""
        raise NotImplementedError

    def _spread(self, block: slice, dY: Array, places: Array) -> None:
        """dY (b, H', W', C) of some images -> the gradient at each place, (KH, KW, b, H', W', C)."""
        raise NotImplementedError


class MaxPool2D(_Pool2D):
    """Y = the largest pixel under each window. It alone gets the window's dY: of equals, the first in reading order."""

    _word, _border = "max", -math.inf

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shape = super().build(input_shape, dtype)
        self._winners = RowBuffer(shape, np.bool_)  # at each place but the last: is it as large as any
        return shape

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y (B, H', W', C)."""
        self._is_largest = self._winners.rows(math.prod(self.size) - 1, math.prod(X.shape[:-3]))
        return super().forward(X, context)

    def _pool(self, block: slice, places: Array, Y: Array) -> None:
        first, *others = places.reshape(-1, *Y.shape)
        largest = first
        for place in others:
            largest = np.maximum(largest, place, out=Y)
        if not others:
            np.copyto(Y, first)
        for place, is_largest in zip((first, *others[:-1]), self._is_largest[:, block], strict=False):
            np.equal(place, Y, out=is_largest)

    def _spread(self, block: slice, dY: Array, places: Array) -> None:
        """What is left of dY is 0 where an earlier place has taken it; all that is left belongs to the last place."""
        *earlier, last = places.reshape(-1, *dY.shape)
        left = dY
        for place, is_largest in zip(earlier, self._is_largest[:, block], strict=True):
            np.copyto(place, is_largest)
            place *= left
            left = np.subtract(left, place, out=last)
        if not earlier:
            np.copyto(last, dY)


class AvgPool2D(_Pool2D):
    """Y = the mean of the pixels under each window, so each of n pixels gets dY / n. Pixels of padding do not count."""

    _word, _border = "average", 0.0

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shape, there = super().build(input_shape, dtype), self._windows
        counts = []
        for axis in range(2):
            starts = np.arange(there.outputs[axis]) * there.stride[axis] - there.before[axis]
            ends = np.minimum(starts + there.kernel[axis], there.inputs[axis])
            counts.append(ends - np.maximum(starts, 0))
        self._shares = np.empty((self._images, *shape), dtype)  # 1 / n, for the images of a block
        self._shares[...] = 1 / (counts[0][:, None, None] * counts[1][:, None])
        return shape

    def _pool(self, block: slice, places: Array, Y: Array) -> None:
        first, *others = places.reshape(-1, *Y.shape)
        np.copyto(Y, first)
        for place in others:
            Y += place
        Y *= self._shares[: len(Y)]

    def _spread(self, block: slice, dY: Array, places: Array) -> None:
        first, *others = places.reshape(-1, *dY.shape)
        np.multiply(dY, self._shares[: len(dY)], out=first)
        for place in others:
            np.copyto(place, first)


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
        np.copyto(dX.reshape(-1, *self._pixels), dY.reshape(-1, 1, dY.shape[-1]))
        dX *= self._shares[0, 0]
        return dX
