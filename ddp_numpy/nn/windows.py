"""Where the windows of a convolution or a pool stand on an image, and the pixels under them."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ddp_numpy.base import schema
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.context import Array
from ddp_numpy.nn.layers import MOST_NUMBERS, Shape

Pair = tuple[int, int]
"""Of rows and of columns."""

Padding = str | int
"""same, valid, or a number of pixels on each side."""


def as_pair(value: Any, where: str) -> Pair:
    """A whole number above 0, for rows and columns alike, or a list or tuple of two. Raises InputError for others."""
    numbers = list(value) if isinstance(value, tuple) else value
    schema.check(numbers, (schema.Whole(1, MOST_NUMBERS), [schema.Whole(1, MOST_NUMBERS)]), where)
    if not isinstance(numbers, list):
        return int(numbers), int(numbers)
    if len(numbers) != 2:
        raise InputError(f"{where} has {len(numbers)} numbers, and must have two: of rows and of columns")
    return int(numbers[0]), int(numbers[1])


def as_padding(value: Any, where: str) -> Padding:
    """The same, or that number as a Python one. Raises InputError for anything else."""
    schema.check(value, (schema.OneOf("same", "valid"), schema.Whole(0, MOST_NUMBERS)), where)
    return value if isinstance(value, str) else int(value)


def as_config(numbers: Pair) -> int | list[int]:
    """A pair as `as_pair` takes it and JSON can hold it: one number if both are equal."""
    return numbers[0] if numbers[0] == numbers[1] else list(numbers)


def times(numbers: Shape) -> str:
    """A size for people: 3x3."""
    return "x".join(map(str, numbers))


class Windows(NamedTuple):
    """Windows of kernel[0] x kernel[1] pixels on an image with a border: window (h, w) begins at pixel stride * (h, w).

    Example along one axis: 5 pixels, a kernel of 3, padding 1 and stride 2. Then there are 3 windows, over the pixels
    (border, 0, 1), (1, 2, 3) and (3, 4, border).
    """

    inputs: Pair  # H, W
    kernel: Pair
    stride: Pair
    dilation: Pair  # the distance between neighbouring pixels of a window
    before: Pair  # pixels of the border above and at the left
    padded: Pair  # the image's height and width with its border
    outputs: Pair  # how many windows there are: H', W'
    first: Pair = (0, 0)  # the pixel, border included, where the first of them begins

    def image(self, padded: Array) -> Array:
        """(B, *padded, C) -> the pixels without the border, (B, H, W, C): a view."""
        (top, left), (height, width) = self.before, self.inputs
        return padded[:, top : top + height, left : left + width]

    def under(self, padded: Array) -> Array:
        """(B, *padded, C) -> the pixels under each window, (B, H', W', KH, KW, C): a view."""
        padded = padded[:, self.first[0] :, self.first[1] :]
        count, row, column, channel = padded.strides
        steps = (row * self.stride[0], column * self.stride[1], row * self.dilation[0], column * self.dilation[1])
        shape = (len(padded), *self.outputs, *self.kernel, padded.shape[-1])
        return np.lib.stride_tricks.as_strided(padded, shape, (count, *steps, channel))

    def of_one_row(self) -> "Windows":
        """With stride 1 down: windows of a single row. Row i of a whole window h is window h + i * dilation here."""
        lines = self.outputs[0] + self.dilation[0] * (self.kernel[0] - 1)
        return self._replace(kernel=(1, self.kernel[1]), outputs=(lines, self.outputs[1]))

    def ways_back(self) -> "list[WayBack]":
        """From gradients of windows to gradients of pixels, for each part of the pixels.

        Pixel p lies at place i of window (p + before - i * dilation) / stride, if that is whole: at the last of its
        places in the first of its windows. Pixels that are a stride apart lie at the same places, each in the window
        behind. Pixels in no window are in no part.
        """
        found = []
        for rows, columns in itertools.product(*(self._ways_back(axis) for axis in range(2))):
            kernel, dilation, before, padded, outputs, first = zip(rows[2], columns[2], strict=True)
            there = Windows(self.outputs, kernel, (1, 1), dilation, before, padded, outputs, first)
            found.append(WayBack((rows[0], columns[0]), (rows[1], columns[1]), there))
        return found

    def _ways_back(self, axis: int) -> Iterator[tuple[slice, slice, Shape]]:
        """Along one axis: pixels, places, and kernel, dilation, before, padded, outputs and first of the windows."""
        size, stride, dilation = self.inputs[axis], self.stride[axis], self.dilation[axis]
        for start in range(min(stride, size)):
            pixel = start + self.before[axis]
            places = [i for i in range(self.kernel[axis]) if (pixel - i * dilation) % stride == 0]
            if places:
                step = places[1] - places[0] if len(places) > 1 else stride
                distance, count = step * dilation // stride, len(range(start, size, stride))
                window = (pixel - places[-1] * dilation) // stride
                before, first = max(-window, 0), max(window, 0)
                padded = max(before + self.outputs[axis], first + count + distance * (len(places) - 1))
                sizes = (len(places), distance, before, padded, count, first)
                yield slice(start, None, stride), slice(places[-1], places[0] - 1 if places[0] else None, -step), sizes


class WayBack(NamedTuple):
    """How some pixels get their gradients: those under windows of stride 1 on gradients (H', W'), times weights."""

    pixels: tuple[slice, slice]
    """Which pixels of the images (H, W)."""
    places: tuple[slice, slice]
    """Which places of the kernel their weights are at, in the order in which the windows have them."""
    windows: Windows


def windows(layer: str, shape: Shape, kernel: Pair, stride: Pair, border: Padding, dilation: Pair = (1, 1)) -> Windows:
    """The windows on images of this shape, (H, W, C).

    Padding `same` is that of TensorFlow: ceil(H / stride) windows, and of an odd number of pixels the larger half comes
    at the end. Raises InputError, which names the layer, for a shape of other dimensions and if no window fits.
    """
    if len(shape) != 3:
        raise InputError(not_images(layer, shape))
    before, padded, outputs = [], [], []
    for size, length, step, distance in zip(shape[:2], kernel, stride, dilation, strict=True):
        span = distance * (length - 1) + 1
        if border == "same":
            count = -(-size // step)
            total = max((count - 1) * step + span - size, 0)
        else:
            total = 0 if isinstance(border, str) else 2 * border
            count = (size + total - span) // step + 1
        before.append(total // 2)
        padded.append(size + total)
        outputs.append(count)
    if min(outputs) < 1:
        far = f", its pixels {times(dilation)} apart," if max(dilation) > 1 else ""
        raise InputError(
            f"{layer}: a window of {times(kernel)} pixels{far} does not fit on images of {times(shape[:2])} with "
            f"padding {border!r}; take a smaller window or more padding"
        )
    if max(math.prod(padded), math.prod(outputs)) * shape[2] > MOST_NUMBERS:
        raise InputError(
            f"{layer}: images of {times(shape[:2])} with padding {border!r} are too large; take less padding"
        )
    return Windows(_two(shape), kernel, stride, dilation, _two(before), _two(padded), _two(outputs))


def copy_runs(target: Array, source: Array) -> None:
    """Copy an array (…, n) to another of its shape and dtype, in both of which n numbers follow one another.

    Each run of n numbers is one opaque item to NumPy, so that it copies many runs in one loop, and not in a loop each:
    in a half to three quarters of the time for 16 or 48 numbers (LOG: convolutions).
    """
    run = np.dtype((np.void, target.shape[-1] * target.itemsize))
    np.copyto(target.view(run), source.view(run))


def not_images(layer: str, shape: Shape) -> str:
    """What is wrong with rows that are no images."""
    return (
        f"{layer} takes images (rows, columns, channels), not rows of the shape {shape}; give the model an input_shape "
        "of three numbers, and put layers of images before those of flat rows"
    )


def _two(numbers: Sequence[int]) -> Pair:
    return numbers[0], numbers[1]
