"""Convolution of images, as products of matrices.

Shapes: B images of H x W pixels and C channels, (B, H, W, C), become (B, H', W', F): F filters at H' x W' windows of
KH x KW pixels. In shards (shards, B, …), each shard goes through on its own.
"""

import math
from collections.abc import Iterator
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
from ddp_numpy.nn.windows import Padding, Pair, Windows, as_config, as_padding, as_pair, copy_runs, times, windows

_PATCH_BYTES = 1024 * 1024  # as large as the second cache; LOG: convolutions
_SMALL_PRODUCT = 1_000_000  # multiplications; up to here OpenBLAS takes kernels that copy nothing on newer CPUs
_SHORT_RUN = 8  # numbers; shorter runs are gathered across windows

Block = tuple[slice, slice]
"""Some images of a batch, and some of their rows of windows."""


class Conv2D(Layer):
    """Y[b, h, w] = the pixels under window (h, w) of image b, as a vector, times W, plus b.

    With the pixels under each window as a row of a matrix P (B H' W', KH KW C), this is the dense layer Y = P W + b, so
    dW = P^T dY, and db is the sum of dY's rows. P is gathered for some images at a time, and never kept; with stride 1
    only for one row of the kernel, as the other rows of P are the same pixels again.

    A pixel changes the loss through each window that it lies under. With stride 1, pixel (y, x) lies at place (i, j) of
    window (y - i, x - j), so dX[y, x] is the sum over (i, j) of dY[y - i, x - j] W[i, j]^T. That is again a
    convolution: of dY with a border of zeros, with the places of W in reverse order. With a stride, dY's pixels are
    spread out first, with zeros in between.

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
        back, channels = there.reversed(), input_shape[2]
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
        largest = max(
            math.prod(W_shape),
            math.prod(there.outputs) * self.filters,
            math.prod(back.padded) * self.filters,
            math.prod(self.kernel) * max(there.outputs[1] * channels, back.outputs[1] * self.filters),  # of patches
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
        there, scratch = self._windows(input_shape), RowBuffer((), dtype)
        self._X_patches = _Patches(there, input_shape[2], self.filters, self.groups, scratch, dtype)
        self._dY_patches = _Patches(
            there.reversed(), self.filters, input_shape[2], self.groups, scratch, dtype, spread=self.stride
        )
        self.outputs = RowBuffer((*there.outputs, self.filters), dtype)
        self.input_gradients = RowBuffer(input_shape, dtype)
        self._bias = RowBuffer((self.filters,), dtype)  # b again and again, to be added to many pixels in one run
        self._ones = RowBuffer((), dtype, fill=1)
        inputs, outputs = input_shape[2] // self.groups, self.filters // self.groups
        self._groups_shape = (*self.kernel, self.groups, inputs, outputs)  # of W
        self._W_reversed = RowBuffer((*self.kernel, self.groups, outputs, inputs), dtype)
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
        self._X_patches.load(X)
        bias = self._bias.rows(self._X_patches.lines, Y.shape[2])
        np.copyto(bias, self.b)
        W = self.W.reshape(self._groups_shape)
        for block in self._X_patches.blocks(self._rows, slice(0, len(Y))):
            self._X_patches.multiply(block, W, out=Y[block])
            for image in Y[block]:  # one after the other: for Y += b, NumPy would allocate memory
                image += bias[: len(image)]
        return outputs

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, H', W', F) -> dX (B, H, W, C)."""
        self._dY = dY.reshape(-1, *dY.shape[-3:])
        if not input_gradient:
            return None
        input_gradients = self.input_gradients.rows(*dY.shape[:-3])
        dX, W = input_gradients.reshape(-1, *input_gradients.shape[-3:]), self._W_reversed.rows(1)[0]
        self._dY_patches.load(dY)
        np.copyto(W, self.W.reshape(self._groups_shape)[::-1, ::-1].swapaxes(3, 4))
        for block in self._dY_patches.blocks(self._rows, slice(0, len(dX))):
            self._dY_patches.multiply(block, W, out=dX[block])
        return input_gradients

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Fill dW, of W's shape, and db (F,), with sums over blocks in their order."""
        rows = slice(0, len(self._dY)) if shard is ... else slice(shard * self._rows, (shard + 1) * self._rows)
        dW_part, db_part = self._dW_part.rows(1)[0], self._db_part.rows(1)[0]
        self.dW.fill(0)
        self.db.fill(0)
        for block in self._X_patches.blocks(self._rows, rows):
            dY = self._dY[block]
            self._X_patches.multiply_transposed(block, dY, out=dW_part.reshape(self._groups_shape))
            np.matmul(self._ones.rows(math.prod(dY.shape[:3])), dY.reshape(-1, self.filters), out=db_part)
            self.dW += dW_part
            self.db += db_part


class _Patches:
    """Images, of which the pixels under their windows are multiplied: as rows of matrices, some windows at a time.

    With stride 1 down the image, row i of the kernel lies in window h where row 0 lies in window h + i. So only the
    pixels under row 0 are gathered, and row i has a product of its own with what is gathered from line i on: a third of
    the copies for a 3x3 kernel. Otherwise all pixels under a window are gathered, for one product.

    With more than one group of channels each group has a product of its own, which is too small to be worth the copy.
    """

    def __init__(
        self,
        windows: Windows,
        channels: int,
        filters: int,
        groups: int,
        scratch: RowBuffer,
        dtype: npt.DTypeLike,
        spread: Pair = (1, 1),
    ) -> None:
        """spread: how far apart the pixels of the images that come are to be."""
        self._windows, self._groups, self._scratch, self._spread = windows, groups, scratch, spread
        self._transposed = channels * windows.kernel[1] < _SHORT_RUN
        by_rows = windows.stride[0] == 1 and groups == 1 and not self._transposed
        self._gathered = windows.of_one_row() if by_rows else windows
        self._products = windows.kernel[0] if by_rows else 1
        self._padded = RowBuffer((*windows.padded, channels), dtype, fill=0)
        self._bordered = windows.padded != windows.inputs or spread != (1, 1)
        self._is_plain = windows.kernel == windows.stride == (1, 1) and not self._bordered
        height, width = windows.outputs
        size = math.prod(self._gathered.kernel) * channels
        line_bytes = width * size * np.dtype(dtype).itemsize
        self.lines = min(max(_PATCH_BYTES // line_bytes, 1), height)
        self._images = max(_PATCH_BYTES // (line_bytes * height), 1)
        small = [n for n in range(1, height + 1) if height % n == 0 and n * width * size * filters <= _SMALL_PRODUCT]
        self._lines_of_part = max(small, default=1)
        self._sums = RowBuffer((filters,), dtype)  # of products, before they are added

    def load(self, images: Array) -> None:
        """Take images (B, H, W, C), or shards of them. They must stay as they are while they are multiplied."""
        self._loaded = np.ascontiguousarray(images).reshape(-1, *images.shape[-3:])
        if self._bordered:
            padded = self._padded.rows(self._images)
            self._inside = self._windows.image(padded)[:, :: self._spread[0], :: self._spread[1]]
        else:
            padded = self._loaded
        self._under_windows = self._gathered.under(padded)

    def blocks(self, shard_rows: int, rows: slice) -> Iterator[Block]:
        """All windows on these images, which are whole shards, in blocks that depend on the size of a shard alone."""
        for shard in range(rows.start, rows.stop, shard_rows or 1):
            for start in range(shard, shard + shard_rows, self._images):
                images = slice(start, min(start + self._images, shard + shard_rows))
                for top in range(0, self._windows.outputs[0], self.lines):
                    yield images, slice(top, min(top + self.lines, self._windows.outputs[0]))

    def multiply(self, block: Block, W: Array, out: Array) -> None:
        """W (KH, KW, groups, C / groups, F / groups): the pixels under a block's windows times W, (b, h', W', F)."""
        if self._groups == 1:
            matrices = self._gather(block)
            W = W.reshape(len(matrices), matrices[0].shape[-1], -1)
            out = out.reshape(*matrices[0].shape[:-1], -1)
            np.matmul(matrices[0], W[0], out=out)
            for P, weights in zip(matrices[1:], W[1:], strict=True):
                out += np.matmul(P, weights, out=self._sums.rows(*out.shape[:-1]))
        else:
            np.einsum("bhwijgm,ijgmn->bhwgn", self._in_groups(self._under(block)), W, out=self._in_groups(out))

    def multiply_transposed(self, block: Block, dY: Array, out: Array) -> None:
        """dY (b, h', W', F): the sums over a block's windows of their pixels times dY, of W's shape."""
        if self._groups == 1:
            matrices = self._gather(block)
            dY = dY.reshape(*matrices[0].shape[:-1], -1)
            out = out.reshape(len(matrices), matrices[0].shape[-1], -1)
            for P, sums in zip(matrices, out, strict=True):
                parts = self._sums.rows(*P.shape[:-2], P.shape[-1])
                np.matmul(P.swapaxes(-1, -2), dY, out=parts)
                np.add.reduce(parts.reshape(-1, *sums.shape), axis=0, out=sums)
        else:
            np.einsum("bhwijgm,bhwgn->ijgmn", self._in_groups(self._under(block)), self._in_groups(dY), out=out)

    def _under(self, block: Block) -> Array:
        """The pixels to be gathered (b, lines, W', KH, KW, C), in the images or a copy of them with a border."""
        images, lines = block
        last = lines.stop + self._gathered.outputs[0] - self._windows.outputs[0]
        if not self._bordered:
            return self._under_windows[images, lines.start : last]
        count = images.stop - images.start
        if lines.start == 0:
            np.copyto(self._inside[:count], self._loaded[images])
        return self._under_windows[:count, lines.start : last]

    def _in_groups(self, pixels: Array) -> Array:
        """(…, C) -> (…, groups, C / groups)."""
        return pixels.reshape(*pixels.shape[:-1], self._groups, -1)

    def _gather(self, block: Block) -> list[Array]:
        """For each product, the pixels under a block's windows as rows of matrices, (b, parts, windows, pixels * C).

        Overwrites the last.
        """
        under = self._under(block)
        lines, size = under.shape[:3], math.prod(under.shape[3:])
        if self._is_plain:
            gathered = under.reshape(*lines, size)
        elif self._transposed:
            memory = self._scratch.rows(size, *lines)
            np.copyto(memory.reshape(*under.shape[3:], *lines), under.transpose(3, 4, 5, 0, 1, 2))
            gathered = memory.transpose(1, 2, 3, 0)
        else:
            if self._windows.dilation[1] == 1:  # the pixels of a line of a window are one run
                under = under.reshape(*under.shape[:4], -1)
            gathered = self._scratch.rows(*lines, size)
            copy_runs(gathered.reshape(under.shape), under)
        height, distance = block[1].stop - block[1].start, self._windows.dilation[0]
        parts = height // self._lines_of_part if height % self._lines_of_part == 0 else 1
        tops = range(0, self._products * distance, distance)
        return [gathered[:, top : top + height].reshape(lines[0], parts, -1, size) for top in tops]
