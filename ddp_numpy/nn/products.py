"""Products of the pixels under windows with the weights of a convolution.

Shapes: images (B, H, W, C) have H' x W' windows of KH x KW pixels, which are multiplied some images or lines at a time.
"""

import math
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.nn.context import Array
from ddp_numpy.nn.windows import Windows, copy_runs

_BLOCK_BYTES = 1024 * 1024  # as large as the second cache; LOG: layers of networks for images
_SMALL_PRODUCT = 1_000_000  # multiplications; up to here OpenBLAS takes kernels that copy nothing on newer CPUs
_SHORT_RUN = 8  # numbers; shorter runs are gathered across windows

Block = tuple[slice, slice]
"""Some images of a batch, and some of their lines of windows."""


class Products:
    """What both ways of multiplying share: images with a border, and the order in which they are multiplied."""

    def __init__(self, windows: Windows, read: Windows, channels: int, dtype: npt.DTypeLike) -> None:
        """read: the windows whose pixels are read, from the first line of a block's windows on."""
        self._windows, self._read = windows, read
        self._padded = RowBuffer((*windows.padded, channels), dtype, fill=0)
        self._bordered = windows.padded != windows.inputs
        line_bytes = windows.outputs[1] * math.prod(read.kernel) * channels * np.dtype(dtype).itemsize
        self.lines = min(max(_BLOCK_BYTES // line_bytes, 1), windows.outputs[0])
        """The most lines of windows in a block."""
        self._images = max(_BLOCK_BYTES // (line_bytes * windows.outputs[0]), 1)

    def load(self, images: Array) -> None:
        """Take images (B, H, W, C), or shards of them. They must stay as they are while they are multiplied."""
        self._loaded = np.ascontiguousarray(images).reshape(-1, *images.shape[-3:])
        padded = self._padded.rows(self._images) if self._bordered else self._loaded
        self._inside, self._under_windows = self._windows.image(padded), self._read.under(padded)

    def blocks(self, shard_rows: int, rows: slice) -> Iterator[Block]:
        """All windows on these images, which are whole shards, in blocks that depend on the size of a shard alone."""
        for shard in range(rows.start, rows.stop, shard_rows or 1):
            for start in range(shard, shard + shard_rows, self._images):
                images = slice(start, min(start + self._images, shard + shard_rows))
                for top in range(0, self._windows.outputs[0], self.lines):
                    yield images, slice(top, min(top + self.lines, self._windows.outputs[0]))

    def multiply(self, block: Block, W: Array, out: Array) -> None:
        """W (KH, KW, groups, C / groups, F / groups): the pixels under a block's windows times W, (b, h', W', F)."""
        raise NotImplementedError

    def multiply_transposed(self, block: Block, dY: Array, out: Array) -> None:
        """dY (b, h', W', F): the sums over a block's windows of their pixels times dY, of W's shape."""
        raise NotImplementedError

    def _under(self, block: Block) -> Array:
        """The pixels to be read (b, lines, W', KH, KW, C), in the images or in a copy of them with a border."""
        images, lines = block
        below = lines.stop + self._read.outputs[0] - self._windows.outputs[0]
        if not self._bordered:
            return self._under_windows[images, lines.start : below]
        count = images.stop - images.start
        if lines.start == 0:
            np.copyto(self._inside[:count], self._loaded[images])
        return self._under_windows[:count, lines.start : below]


class MatrixProducts(Products):
    """With a single group of channels: the pixels under windows are gathered as rows of matrices.

    With stride 1 down the image, row i of the kernel lies in window h where row 0 lies in window h + i. So only the
    pixels under row 0 are gathered, and row i has a product of its own with what is gathered from line i on: a third of
    the copies for a 3x3 kernel. Otherwise all pixels under a window are gathered, for one product.
    """

    def __init__(self, windows: Windows, channels: int, filters: int, scratch: RowBuffer, dtype: npt.DTypeLike) -> None:
        """scratch: for what is gathered, and of no worth between two calls."""
        self._scratch, self._sums = scratch, RowBuffer((filters,), dtype)
        self._transposed = channels * windows.kernel[1] < _SHORT_RUN
        by_rows = windows.stride[0] == 1 and not self._transposed
        self._products = windows.kernel[0] if by_rows else 1
        super().__init__(windows, windows.of_one_row() if by_rows else windows, channels, dtype)
        self._is_plain = windows.kernel == windows.stride == (1, 1) and not self._bordered
        height, width = windows.outputs
        line = width * math.prod(self._read.kernel) * channels * filters
        small = [lines for lines in range(1, height + 1) if height % lines == 0 and lines * line <= _SMALL_PRODUCT]
        self._lines_of_part = max(small, default=1)

    def multiply(self, block: Block, W: Array, out: Array) -> None:
        matrices = self._gather(block)
        W = W.reshape(len(matrices), matrices[0].shape[-1], -1)
        out = out.reshape(*matrices[0].shape[:-1], -1)
        np.matmul(matrices[0], W[0], out=out)
        for P, weights in zip(matrices[1:], W[1:], strict=True):
            out += np.matmul(P, weights, out=self._sums.rows(*out.shape[:-1]))

    def multiply_transposed(self, block: Block, dY: Array, out: Array) -> None:
        matrices = self._gather(block)
        dY = dY.reshape(*matrices[0].shape[:-1], -1)
        out = out.reshape(len(matrices), matrices[0].shape[-1], -1)
        for P, sums in zip(matrices, out, strict=True):
            parts = self._sums.rows(*P.shape[:-2], P.shape[-1])
            np.matmul(P.swapaxes(-1, -2), dY, out=parts)
            np.add.reduce(parts.reshape(-1, *sums.shape), axis=0, out=sums)

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


class ChannelProducts(Products):
    """Each channel is a group of its own. Its product is too small to be worth gathering pixels for."""

    def __init__(self, windows: Windows, channels: int, groups: int, dtype: npt.DTypeLike) -> None:
        """channels: a multiple of groups."""
        super().__init__(windows, windows, channels, dtype)
        self._groups = groups

    def multiply(self, block: Block, W: Array, out: Array) -> None:
        np.einsum("bhwijgm,ijgmn->bhwgn", self._in_groups(self._under(block)), W, out=self._in_groups(out))

    def multiply_transposed(self, block: Block, dY: Array, out: Array) -> None:
        np.einsum("bhwijgm,bhwgn->ijgmn", self._in_groups(self._under(block)), self._in_groups(dY), out=out)

    def _in_groups(self, pixels: Array) -> Array:
        """(…, C) -> (…, groups, C / groups)."""
        return pixels.reshape(*pixels.shape[:-1], self._groups, -1)
