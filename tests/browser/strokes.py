"""Digits of MNIST as a hand would draw them: strokes along the middle of what is white."""

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage.morphology import skeletonize

Pixel = tuple[int, int]
_FINER = 4  # pixels that the skeleton is found on, to one of MNIST's
_INK = 100  # of 255
_NEIGHBOURS = [(0, 1), (1, 0), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]
_LOOKS_BACK = 4  # pixels, for the direction of a stroke


def strokes(row: npt.NDArray[np.uint8]) -> list[list[tuple[float, float]]]:
    """Lines of points (x, y), in pixels of the digit (784,)."""
    large = Image.fromarray(row.reshape(28, 28)).resize((28 * _FINER, 28 * _FINER), Image.Resampling.BICUBIC)
    skeleton = {(int(y), int(x)) for y, x in np.argwhere(skeletonize(np.asarray(large) >= _INK))}
    left, lines = set(skeleton), []
    while left:
        lines.append(_line(skeleton, left))
    return [[((x + 0.5) / _FINER, (y + 0.5) / _FINER) for y, x in line] for line in lines]


def _line(skeleton: set[Pixel], left: set[Pixel]) -> list[Pixel]:
    """One stroke, straight on where there are several ways; its pixels are taken out of those that are left."""
    ends = [pixel for pixel in left if len(_beside(pixel, skeleton)) == 1]
    line = [min(ends or left)]
    left.discard(line[0])
    drawn = [pixel for pixel in _beside(line[0], skeleton) if pixel not in left]
    line = drawn[:1] + line  # so that it begins where another stroke is
    while ways := _beside(line[-1], left):
        line.append(max(ways, key=lambda pixel: _straightness(line, pixel)))
        left.discard(line[-1])
    return line + [pixel for pixel in _beside(line[-1], skeleton) if pixel not in line[-3:]][:1]


def _beside(pixel: Pixel, among: set[Pixel]) -> list[Pixel]:
    y, x = pixel
    return [(y + down, x + across) for down, across in _NEIGHBOURS if (y + down, x + across) in among]


def _straightness(line: list[Pixel], pixel: Pixel) -> int:
    (y, x), (from_y, from_x) = line[-1], line[max(-len(line), -_LOOKS_BACK)]
    return (pixel[0] - y) * (y - from_y) + (pixel[1] - x) * (x - from_x)
