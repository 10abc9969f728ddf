"""Convolution of images, as products of matrices.

Shapes: B images of H x W pixels and C channels, (B, H, W, C), become (B, H', W', F): F filters at H' x W' windows of
KH x KW pixels. In shards (shards, B, …), each shard goes through on its own.
"""

import math
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn import initialize
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.initialize import INITIALIZERS
from ddp_numpy.nn.layers import MOST_NUMBERS, Layer, Shape
from ddp_numpy.nn.products import ChannelProducts, MatrixProducts, Products
from ddp_numpy.nn.windows import (
    Padding,
    Pair,
    WayBack,
    Windows,
    as_config,
    as_padding,
    as_pair,
    copy_runs,
    times,
    windows,
)


class Conv2D(Layer):
    """Y[b, h, w] = the pixels under window (h, w) of image b, as a vector, times W, plus b.

    With the pixels under each window as a row of a matrix P (B H' W', KH KW C), this is the dense layer Y = P W + b, so
    dW = P^T dY, and db is the sum of dY's rows. P is gathered for some images at a time, and never kept; with stride 1
    only for one row of the kernel, as the other rows of P are the same pixels again.

    A pixel changes the loss through each window that it lies under. With stride 1, pixel (y, x) lies at place (i, j) of
    window (y - i, x - j), so dX[y, x] is the sum over (i, j) of dY[y - i, x - j] W[i, j]^T. That is again a
    convolution: of dY with a border of zeros, with the places of W in reverse order. With a stride, pixels that are a
    stride apart lie at the same places of their windows, so each such part of the pixels has a convolution with some
    places of W.

    Depthwise, each channel is convolved on its own, with F / C filters.
    """

    W: Array  # (KH, KW, C, F); depthwise (KH, KW, C, F / C)
    b: Array  # (F,)
    dW: Array
    db: Array
    outputs: RowBuffer
    input_gradients: RowBuffer

    def __init__(
        self,
        filters: int,
        kernel: int | list[int] | Pair = 3,
        stride: int | list[int] | Pair = 1,
        padding: Padding = "same",
        dilation: int | list[int] | Pair = 1,
        groups: int = 1,
        init: str = initialize.DEFAULT,
    ) -> None:
        """kernel, stride, dilation: of rows and columns alike, or a pair. groups: 1, or C for depthwise.

        padding: "same" for ceil(H / stride) windows, "valid" for none, or a number of pixels on each side. init: how W
        is drawn, a name of INITIALIZERS. Raises InputError for any other value.
        """
        schema.check(filters, schema.Whole(1, MOST_NUMBERS), "Conv2D: filters")
        schema.check(groups, schema.Whole(1, MOST_NUMBERS), "Conv2D: groups")
        schema.check(init, schema.OneOf(*INITIALIZERS), "Conv2D: init")
        self.filters, self.groups, self.init = int(filters), int(groups), init
        self.kernel, self.stride = as_pair(kernel, "Conv2D: kernel"), as_pair(stride, "Conv2D: stride")
        self.dilation, self.padding = as_pair(dilation, "Conv2D: dilation"), as_padding(padding, "Conv2D: padding")

    def config(self) -> dict[str, Any]:
        return {
            "filters": self.filters,
            "kernel": as_config(self.kernel),
            "stride": as_config(self.stride),
            "padding": self.padding,
            "dilation": as_config(self.dilation),
            "groups": self.groups,
            **initialize.config(self.init),
        }

    def __str__(self) -> str:
        return f"{'depthwise ' * (self.groups > 1)}conv {times(self.kernel)} -> {self.filters}"

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        there = self._windows(input_shape)
        channels = input_shape[2]
        if self.groups not in (1, channels):
            raise InputError(
                f"layer {self.number} (Conv2D): groups is {self.groups}, and must be 1 or the number of channels, "
                f"which is {channels}"
            )
        if self.filters % self.groups:
            raise InputError(
                f"layer {self.number} (Conv2D): filters is {self.filters}, and with groups {self.groups} must be a "
                f"multiple of {self.groups}"
            )
        W_shape = (*self.kernel, channels, self.filters // self.groups)
        reach = (there.dilation[axis] * (self.kernel[axis] - 1) for axis in range(2))
        dY_padded = math.prod(map(sum, zip(there.inputs, there.outputs, reach, strict=True)))  # at most
        largest = max(
            math.prod(W_shape),
            math.prod(there.outputs) * self.filters,
            dY_padded * self.filters,
            math.prod(self.kernel) * max(there.outputs[1] * channels, input_shape[1] * self.filters),  # of patches
        )
        if largest > MOST_NUMBERS:
            raise InputError(
                f"layer {self.number} (Conv2D): on images of the shape {input_shape}, one of its arrays would have "
                f"{largest:,} numbers; take fewer filters, or a smaller kernel or dilation"
            )
        return {"W": W_shape, "b": (self.filters,)}

    def _windows(self, input_shape: Shape) -> Windows:
        where = f"layer {self.number} (Conv2D)"
        return windows(where, input_shape, self.kernel, self.stride, self.padding, self.dilation)

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        W_shape = self.parameter_shapes(input_shape)["W"]
        there, self._input_shape, self._scratch = self._windows(input_shape), input_shape, RowBuffer((), dtype)
        self._groups_shape = (*self.kernel, self.groups, W_shape[2] // self.groups, W_shape[3])  # of W
        self._of_X = self._products(there, input_shape[2], self.filters, dtype)
        self._of_dY: list[tuple[WayBack, Products, Array]] | None = None  # until backward needs it
        self._dX_part = RowBuffer((input_shape[2],), dtype)
        self.outputs = RowBuffer((*there.outputs, self.filters), dtype)
        self.input_gradients = RowBuffer(input_shape, dtype)
        self._bias = RowBuffer((self.filters,), dtype)  # b again and again, to be added to many pixels in one run
        self._ones = RowBuffer((), dtype, fill=1)
        self._dW_part, self._db_part = RowBuffer(W_shape, dtype), RowBuffer((self.filters,), dtype)
        return (*there.outputs, self.filters)

    def flops(self) -> int:
        return 2 * self.W.size * math.prod(self.output_shape[:2])  # a product and a sum for each weight and window

    def initialize(self, rng: np.random.Generator) -> None:
        """Of W: an output has KH KW C / groups inputs, and an input KH KW F / groups outputs."""
        pixels = math.prod(self.kernel)
        inputs, outputs = pixels * self.W.shape[2] // self.groups, pixels * self.filters // self.groups
        self.W[...] = INITIALIZERS[self.init](rng, self.W.shape, inputs, outputs)

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, H, W, C) -> Y (B, H', W', F)."""
        outputs = self.outputs.rows(*X.shape[:-3])
        Y = outputs.reshape(-1, *outputs.shape[-3:])
        self._rows = X.shape[-4]
        self._of_X.load(X)
        bias = self._bias.rows(self._of_X.lines, Y.shape[2])
        np.copyto(bias, self.b)
        W = self.W.reshape(self._groups_shape)
        for block in self._of_X.blocks(self._rows, slice(0, len(Y))):
            self._of_X.multiply(block, W, out=Y[block])
            for image in Y[block]:  # one after the other: for Y += b, NumPy would allocate memory
                image += bias[: len(image)]
        return outputs

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, H', W', F) -> dX (B, H, W, C)."""
        self._dY = dY.reshape(-1, *dY.shape[-3:])
        if not input_gradient:
            return None
        input_gradients = self.input_gradients.rows(*dY.shape[:-3])
        dX = input_gradients.reshape(-1, *input_gradients.shape[-3:])
        if self._of_dY is None:
            self._of_dY = self._ways_back()
        if len(self._of_dY) < math.prod(map(min, self.stride, dX.shape[1:3])):
            dX.fill(0)  # for pixels in no window
        for way, products, W in self._of_dY:
            products.load(dY)
            np.copyto(W, self.W.reshape(self._groups_shape)[way.places].swapaxes(3, 4))
            pixels = dX[:, way.pixels[0], way.pixels[1]]
            for block in products.blocks(self._rows, slice(0, len(dX))):
                if self.stride == (1, 1):
                    products.multiply(block, W, out=pixels[block])
                else:
                    part = self._dX_part.rows(*pixels[block].shape[:3])
                    products.multiply(block, W, out=part)
                    copy_runs(pixels[block], part)
        return input_gradients

    def _ways_back(self) -> list[tuple[WayBack, Products, Array]]:
        """For each part of the pixels, the products of dY, and memory for the weights of its places."""
        found, dtype = [], self.W.dtype
        *_, groups, inputs, outputs = self._groups_shape
        for way in self._windows(self._input_shape).ways_back():
            W = np.empty((*way.windows.kernel, groups, outputs, inputs), dtype)
            found.append((way, self._products(way.windows, self.filters, groups * inputs, dtype), W))
        return found

    def _products(self, windows: Windows, channels: int, filters: int, dtype: npt.DTypeLike) -> Products:
        if self.groups == 1:
            return MatrixProducts(windows, channels, filters, self._scratch, dtype)
        return ChannelProducts(windows, channels, self.groups, dtype)

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Fill dW, of W's shape, and db (F,), with sums over blocks in their order."""
        rows = slice(0, len(self._dY)) if shard is ... else slice(shard * self._rows, (shard + 1) * self._rows)
        dW_part, db_part = self._dW_part.rows(1)[0], self._db_part.rows(1)[0]
        self.dW.fill(0)
        self.db.fill(0)
        for block in self._of_X.blocks(self._rows, rows):
            dY = self._dY[block]
            self._of_X.multiply_transposed(block, dY, out=dW_part.reshape(self._groups_shape))
            np.matmul(self._ones.rows(math.prod(dY.shape[:3])), dY.reshape(-1, self.filters), out=db_part)
            self.dW += dW_part
            self.db += db_part
