"""Pictures of digits, of any size and colour, made as MNIST's are: fitted into 20 x 20 pixels, and centred in 28 x 28.

All is done in whole numbers, so that a page in a browser can come to the same pixels.
"""

import warnings
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.messages import one_line

Array = npt.NDArray[Any]
SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff")
_FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")  # and none for which Pillow would start a program
SIDE, _BOX = 28, 20
MOST_PIXELS = 8 * 10**7  # of a picture; about 1 GB while it is read
_LEAST_CONTRAST = 32  # of 255, between what is drawn and what it is drawn on
_OPAQUE = 128  # of 255
_NOISE = 4  # times what a tenth of the edge differs by at least: one speck far away would make all else small


def read_picture(path: Path) -> Array:
    """The digit of a picture in a file, as `digit_on` returns it. Raises as that does, and OSError as open() does."""
    with open_regular(path) as file:
        return digit_on(file, path)


def digit_on(file: BinaryIO, name: object, most_pixels: int = MOST_PIXELS) -> Array:
    """The digit on a picture (784,), uint8, white on black, as MNIST has it. name: of the picture, for messages.

    Needs Pillow. Raises InputError if it is not there, for what is no picture or one of more pixels, and if nothing is
    drawn on it.
    """
    return centred(ink(*_grey_and_alpha(file, name, most_pixels), name))


def _grey_and_alpha(file: BinaryIO, name: object, most_pixels: int) -> tuple[Array, Array]:
    """How light each pixel is (H, W), and how opaque, both uint8."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        raise InputError(f"{name}: reading pictures needs Pillow: pip install pillow") from None
    try:
        with warnings.catch_warnings(), Image.open(file, formats=_FORMATS) as picture:
            warnings.simplefilter("ignore")  # about what such files may have beside their pixels
            if picture.width * picture.height > most_pixels:
                raise InputError(
                    f"{name}: has {picture.width:,} x {picture.height:,} pixels; at most {most_pixels:,} are read"
                )
            turned = ImageOps.exif_transpose(picture)
            if turned.mode.startswith(("I", "F")):  # more than 8 bits a pixel, and no transparency
                values = np.asarray(turned, np.float64)
                values = (values - values.min()) / max(1e-9, values.max() - values.min()) * 255
                return values.astype(np.uint8), np.full(values.shape, 255, np.uint8)
            both = np.asarray(turned.convert("RGBA").convert("LA"))
            return both[..., 0], both[..., 1]
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(f"{name}: no picture that can be read") from None
    except Image.DecompressionBombError:
        raise InputError(f"{name}: has too many pixels; at most {most_pixels:,} are read") from None
    except Exception as error:  # Pillow's readers raise errors of many kinds for damaged files
        if getattr(error, "errno", None) is not None:  # of the system
            raise
        raise InputError(f"{name}: no picture that can be read, or damaged ({one_line(error)})") from None


def ink(grey: Array, alpha: Array, name: object) -> Array:
    """How much is drawn at each pixel (H, W), uint8, whether it is dark on light, light on dark, or on nothing.

    grey, alpha (H, W): uint8. What most of the edge shows is the background, and how much the edge differs from it is
    not taken for ink. Raises InputError if nothing is drawn.
    """
    grey, alpha = grey.astype(np.int64), alpha.astype(np.int64)
    edge = np.ones(grey.shape, bool)
    edge[1:-1, 1:-1] = False
    background = int(np.sort(grey[edge])[edge.sum() // 2])
    opaque = alpha >= _OPAQUE
    if np.sort(alpha[edge])[edge.sum() // 2] < _OPAQUE and opaque.any():
        if np.ptp(grey[opaque]) < _OPAQUE:
            amount, noise = alpha, 0  # of one colour, whichever that is
        else:  # a sheet with something on it
            background = int(np.sort(grey[opaque])[opaque.sum() // 2])
            amount, noise = np.where(opaque, np.abs(grey - background), 0), 0
    else:
        amount = background - grey if background >= _OPAQUE else grey - background
        amount = np.maximum(amount * alpha // 255, 0)
        differs = np.sort(np.abs(grey[edge] - background))
        noise = int(differs[len(differs) * 9 // 10])
    peak = int(amount.max(initial=0))
    if peak < _LEAST_CONTRAST:
        raise InputError(f"{name}: nothing is drawn on it")
    least = min(_NOISE * noise, peak // 2)
    drawn: Array = np.clip(amount - least, 0, None) * 255 // (peak - least)
    return drawn.astype(np.uint8)


def centred(ink: Array) -> Array:
    """The pixels (784,), uint8, of what is drawn (H, W), uint8, somewhere: fitted into 20 x 20, and its mass centred.

    As MNIST's were made (http://yann.lecun.com/exdb/mnist): a digit of theirs stays as it is.
    """
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    drawn = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.int64)
    longest = max(drawn.shape)
    height, width = (max(1, (2 * _BOX * side + longest) // (2 * longest)) for side in drawn.shape)
    down, across = _overlaps(drawn.shape[0], height), _overlaps(drawn.shape[1], width)
    area = drawn.size
    small = (2 * (down @ drawn @ across.T) + area) // (2 * area)
    top, left = (_first(small.sum(axis=axis)) for axis in (1, 0))
    image = np.zeros((SIDE, SIDE), np.uint8)
    image[top : top + height, left : left + width] = small
    return image.reshape(-1)


def _overlaps(pixels: int, fewer: int) -> Array:
    """How much of each of these pixels (columns) lies in each of others (rows), when both fill the same length.

    In units in which the whole length is pixels * fewer. Example: 3 pixels and 2 are 2 0 / 1 1 / 0 2.
    """
    new, old = np.arange(fewer)[:, np.newaxis] * pixels, np.arange(pixels) * fewer
    ends, starts = np.minimum(new + pixels, old + fewer), np.maximum(new, old)
    overlaps: Array = np.maximum(ends - starts, 0)
    return overlaps


def _first(masses: Array) -> int:
    """The place of the first of some lines of pixels, among 28, at which their centre of mass is in the middle.

    Or less than a line behind it, as in MNIST's digits. masses: of each line. None of them lies outside.
    """
    total = int(masses.sum())
    place = -((2 * int(masses @ np.arange(len(masses))) + total - SIDE * total) // (2 * total))
    return min(max(place, 0), SIDE - len(masses))
