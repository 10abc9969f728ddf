"""From a choice by name and the rows that train to how features are scaled."""

import contextlib
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.scale import Scale
from ddp_numpy.data.classes import Array
from ddp_numpy.data.mapped import Features, blocks, extremes, one_feature

_BYTES = 255.0
_LEAST_PIXELS = 64  # numbers of a row that may be an image


def fit_scale(choice: str, train: Features, flags: Array | None = None) -> Scale:
    """How features are scaled, from those of the rows that train (n, d). Rows that validate have no part in it.

    choice: "divide:K"; "none"; "standard", to the mean 0 and the standard deviation 1; "minmax", to 0..1; "robust", to
    the median 0 and a difference of 1 between the quartiles. "auto" divides by 255 what looks like images of 8 bits,
    which is many whole numbers 0..255, and some above 127; and standardizes all else. "divide" is what versions did
    that had no other choice: by 255 if all are whole numbers 0..255, else by 1. A feature that never changes is only
    shifted. flags (d,): of the features, those that are 1 or 0 for yes or no, and stay so. Raises InputError for
    another choice, and for numbers that are too large for it.
    """
    if choice == "auto":
        is_image = train.dtype == np.uint8 and train.shape[1] >= _LEAST_PIXELS and flags is None
        is_image = is_image and any(block.max() > _BYTES / 2 for block in blocks(train))  # the first mostly tells
        choice = "divide:255" if is_image else "standard"
    if choice in ("divide", "none"):
        return _divided(_BYTES if choice == "divide" and train.dtype == np.uint8 else 1.0, flags)
    word, _, number = choice.partition(":")
    if word == "divide":
        with contextlib.suppress(ValueError):
            if 0 < (divisor := float(number)) < np.inf:
                return _divided(divisor, flags)
    if choice not in _STATISTICS:
        known = ", ".join(["auto", "none", "divide", *_STATISTICS])
        raise InputError(f"scale {choice!r}: must be {known}, or divide:K with a number K above 0")
    words, statistics = _STATISTICS[choice]
    shift, spread = statistics(train)
    if not (np.isfinite(shift).all() and np.isfinite(spread).all()):
        raise InputError(f"--scale {choice}: features are too large for it; divide them by --scale divide:K")
    spread[spread == 0] = 1
    if flags is not None:
        shift[flags], spread[flags] = 0, 1
    return Scale(spread, shift, words)


def _divided(divisor: float, flags: Array | None) -> Scale:
    if flags is None or divisor == 1:
        return Scale(divisor)
    return Scale(np.where(flags, 1, divisor), np.zeros(len(flags)), f"divided by {divisor:g}")


Pair = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]


def _mean_and_deviation(train: Features) -> Pair:
    """In two passes, as the mean of squares less the square of the mean loses digits."""
    mean = sum(block.sum(axis=0, dtype=np.float64) for block in blocks(train)) / len(train)
    variance = sum(np.square(block - mean).sum(axis=0) for block in blocks(train)) / len(train)
    least, most = extremes(train)
    return mean, np.where(least == most, 0, np.sqrt(variance))  # of equal numbers, the deviation is rounding


def _least_and_range(train: Features) -> Pair:
    least, most = extremes(train)
    return least.astype(np.float64), most - least.astype(np.float64)


def _median_and_quartiles(train: Features) -> Pair:
    quarters = np.empty((3, train.shape[1]))
    for feature in range(train.shape[1]):
        quarters[:, feature] = np.percentile(one_feature(train, feature).astype(np.float64), (25, 50, 75))
    return quarters[1], quarters[2] - quarters[0]


_STATISTICS: dict[str, tuple[str, Callable[[Features], Pair]]] = {
    "standard": ("standardized", _mean_and_deviation),
    "minmax": ("scaled to 0..1", _least_and_range),
    "robust": ("scaled by median and quartiles", _median_and_quartiles),
}
