"""Labelled rows in memory, and the checks that a file's values can be trained on."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Dataset:
    """n rows of d features, each row with a class. Features are raw: a Reader divides them, batch by batch."""

    features: Array  # (n, d), uint8 or float32
    labels: npt.NDArray[np.int64]  # (n,), 0..classes-1
    classes: int
    divisor: float

    def __len__(self) -> int:
        return len(self.labels)

    def __str__(self) -> str:
        return f"{self.features.shape[1]:,} features (divided by {self.divisor:g}), {self.classes} classes"

    def __repr__(self) -> str:
        return f"Dataset({len(self):,} rows of {self})"

    @functools.cached_property
    def largest(self) -> float:
        """The largest absolute value of a feature."""
        return max(float(self.features.max(initial=0)), -float(self.features.min(initial=0)))

    def sha256(self) -> str:
        """A checksum of everything that training uses of this dataset."""
        digest = hashlib.sha256(f"{self.features.dtype} {self.features.shape} {self.classes} {self.divisor}".encode())
        digest.update(np.ascontiguousarray(self.features).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


class Reader:
    """Reads batches of a dataset into memory that the next batch overwrites."""

    def __init__(self, data: Dataset, dtype: npt.DTypeLike) -> None:
        """dtype: that of the scaled features."""
        self._data = data
        self._scale = 1 / data.divisor
        self._raw = RowBuffer(data.features.shape[1:], data.features.dtype)
        self._scaled = RowBuffer(data.features.shape[1:], dtype)

    @property
    def largest(self) -> float:
        """No scaled feature is larger in absolute value, but for rounding."""
        return self._data.largest * self._scale

    def read(self, rows: Array, X: Array | None = None) -> tuple[Array, npt.NDArray[np.int64]]:
        """The scaled features (B, d) and the labels (B,) of these row numbers (B,).

        X: memory for the features; by default the reader's own.
        """
        raw, X = self._raw.rows(len(rows)), self._scaled.rows(len(rows)) if X is None else X
        # The caller makes only row numbers that are in range. mode="raise" would check them, in a buffered copy.
        np.take(self._data.features, rows, axis=0, out=raw, mode="clip")
        np.copyto(X, raw)  # a step of its own, because a product of mixed types converts piece by piece
        X *= self._scale
        return X, self._data.labels[rows]

    def read_features(self, rows: Array, features: slice, X: Array) -> None:
        """Write to X (B, k) some of the scaled features of these row numbers (B,)."""
        if X.size:
            np.copyto(X, self._data.features[rows, features])
            X *= self._scale


def compact_features(values: Array, path: Path, columns: list[str] | None = None) -> Array:
    """Numbers (n, d) as contiguous uint8 if no value changes by it, else as float32.

    Raises InputError for a value that is missing, infinite or too large for float32. The error names its row (from 1)
    and its column (from 1, or by name).
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.size and values.min() >= 0 and values.max() <= 255:  # false if any value is NaN
        small = values.astype(np.uint8)
        if values.dtype.kind in "iu" or np.array_equal(small, values):
            return np.ascontiguousarray(small)
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, np.float32)
    finite = np.isfinite(single)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        value = values[row, column]
        what = "a value is missing" if np.isnan(value) else f"{value} is not a finite float32"
        name = repr(columns[column]) if columns else column + 1
        raise InputError(f"{path}: row {row + 1}, column {name}: {what}; correct or drop the row")
    return single


def check_labels(labels: Array, path: Path) -> npt.NDArray[np.int64]:
    """Labels (n,) as int64. Raises InputError unless they are the whole numbers 0..k-1, k at least 2, none missing."""
    numbers = labels.astype(np.float64)  # exact up to 2**53; nothing has more rows, so no label is larger
    wrong = ~np.isfinite(numbers) | (numbers != np.rint(numbers)) | (numbers < 0) | (numbers > 2**53)
    if wrong.any():
        row = int(np.argmax(wrong))
        value = "missing" if np.isnan(numbers[row]) else labels[row]
        raise InputError(f"{path}: row {row + 1}: label is {value}: labels must be whole numbers 0, 1, 2 …")
    whole = numbers.astype(np.int64)
    present = np.unique(whole)
    gaps = present != np.arange(len(present))
    if gaps.any():
        missing = int(np.argmax(gaps))
        row = int(np.argmax(whole == present[missing]))
        raise InputError(
            f"{path}: no row has label {missing}, but row {row + 1} has {whole[row]}: "
            "labels must be 0, 1, 2 … with none left out; renumber them"
        )
    if len(present) < 2:
        raise InputError(f"{path}: all {len(whole)} rows have the label 0: at least two classes are needed")
    return whole
