"""Labelled rows in memory, and the checks that a file's values can be trained on."""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.columns import Column, are_plain, plan
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.rows import numbered
from ddp_numpy.base.scale import UNSCALED, Scale, Scaler
from ddp_numpy.data.classes import Array, Name, in_short
from ddp_numpy.data.mapped import Features, MappedRows, blocks, extremes

ROUNDING = 2.0**12  # how much larger than their differences float32 may hold numbers: it has 24 bits


@dataclass(frozen=True)
class Dataset:
    """n rows of d features, each with a class, or with a number to predict. All are raw: a Reader scales them."""

    features: Features
    """(n, d), uint8 or float32; float64 if float32 can't tell the values of a column apart."""
    labels: Array
    """(n,), int64, 0..classes-1; or float64, the numbers to predict."""
    classes: int
    """0 if numbers are to be predicted."""
    scale: Scale = UNSCALED
    class_names: tuple[Name, ...] = ()
    """What the classes 0, 1, 2 … are called in the data, in this order; () if just so."""
    columns: tuple[Column, ...] = ()
    """Of the table that the features were made of; () if these have no names."""
    label: str = ""
    """The name of the column of labels; "" if it has none."""
    target: Scale | None = None
    """How numbers to predict are scaled, as one feature; None of classes."""
    notes: tuple[str, ...] = ()
    """What people should know of how a file was read: which column has the labels, and why."""
    doubts: tuple[str, ...] = ()
    """What is odd about the rows, and what to do."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def largest_share(self) -> float | None:
        """The share of the rows that the class with most of them has; None if numbers are to be predicted."""
        return None if self.target is not None else float(np.bincount(self.labels).max() / len(self))

    def balanced_weights(self) -> list[float]:
        """For each class a weight with which all classes count alike, and all rows together as without weights.

        Of n rows in k classes, a class of m rows has n / (k * m). Example: of 6 and 2 rows, 0.667 and 2.
        """
        rows = np.bincount(self.labels, minlength=self.classes)
        return [len(self) / (self.classes * count) for count in rows.tolist()]

    @property
    def outputs(self) -> int:
        """How many numbers a model returns for a row."""
        return self.classes or 1

    def __str__(self) -> str:
        features = f"{self.features.shape[1]:,} features ({self.scale})"
        if not are_plain(self.columns):
            features = f"{len(self.columns):,} columns as {features}"
        if self.target is not None:
            return f"{features}, numbers to predict ({self.target})"
        named = f": {in_short(self.class_names)}" if self.class_names else ""
        return f"{features}, {self.classes} classes{named}"

    def __repr__(self) -> str:
        return f"Dataset({len(self):,} rows of {self})"

    @functools.cached_property
    def largest(self) -> float:
        """No scaled feature is larger in absolute value, but for rounding."""
        return self.scale.largest(*extremes(self.features))

    def raw(self, rows: Array | slice, features: slice = slice(None)) -> Array:
        """Some of the raw features (B, k) of these rows, by their numbers (B,) or as a slice."""
        given = self.features
        return given.some(rows, features) if isinstance(given, MappedRows) else given[rows, features]

    def plan(self) -> list[str]:
        """Lines for people on what is made of each column; none if it is the same of all, or they have no names."""
        alike = are_plain(self.columns) and self.scale.shift is None
        return plan(self.columns, self.scale) if self.columns and not alike else []

    def sha256(self) -> str:
        """A checksum of everything that training uses of this dataset."""
        scale = list(self.scale.description().values())
        names = [json.dumps(self.class_names)] if self.class_names else []
        # So written, the checksum of what earlier versions could read stays as it was.
        target = [] if self.target is None else self.target.description().values()
        columns = [] if are_plain(self.columns) else [json.dumps([column.description() for column in self.columns])]
        facts = [self.features.dtype, self.features.shape, self.classes, *scale, *names, *target, *columns]
        digest = hashlib.sha256(" ".join(map(str, facts)).encode())
        for block in blocks(self.features):
            digest.update(np.ascontiguousarray(block).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()


class Reader:
    """Reads batches of a dataset into memory that the next batch overwrites."""

    def __init__(self, data: Dataset, dtype: npt.DTypeLike) -> None:
        """dtype: that of the scaled features."""
        self._data = data
        self._scale = Scaler(data.scale, data.features.dtype, dtype)
        self._target = None if data.target is None else Scaler(data.target, np.float64, np.float64)
        self._raw = RowBuffer(data.features.shape[1:], data.features.dtype)
        self._scaled = RowBuffer(data.features.shape[1:], dtype)

    @property
    def largest(self) -> float:
        """No scaled feature is larger in absolute value, but for rounding."""
        return self._data.largest

    def read(self, rows: Array, X: Array | None = None) -> tuple[Array, Array]:
        """The scaled features (B, d) and the labels (B,), or scaled numbers to predict, of these row numbers (B,).

        X: memory for the features; by default the reader's own.
        """
        raw, X = self._raw.rows(len(rows)), self._scaled.rows(len(rows)) if X is None else X
        features = self._data.features
        if isinstance(features, MappedRows):
            features.take(rows, raw)
        else:  # The caller makes only row numbers that are in range. mode="raise" would check them, in a buffered copy.
            np.take(features, rows, axis=0, out=raw, mode="clip")
        self._scale(raw, X)
        y = self._data.labels[rows]
        if self._target is not None:
            self._target(y, y)
        return X, y

    def read_features(self, rows: Array, features: slice, X: Array) -> None:
        """Write to X (B, k) some of the scaled features of these row numbers (B,)."""
        if X.size:
            self._scale(self._data.raw(rows, features), X, features)


def compact_features(
    values: Array,
    path: Path,
    columns: list[str] | None = None,
    rows: Array | None = None,
    may_miss: bool = False,
) -> Array:
    """Numbers (n, d) as contiguous uint8 if no value changes by it, else as float32.

    rows (n,): the rows' numbers for people, by default from 1; may_miss: whether a value may be missing, NaN. Raises
    InputError for a value that is missing, infinite or too large for float32. The error names its row and its column
    (from 1, or by name).
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.size and values.min() >= 0 and values.max() <= 255:  # false if any value is NaN
        small = values.astype(np.uint8)
        if values.dtype.kind in "iu" or np.array_equal(small, values):
            return np.ascontiguousarray(small)
    with np.errstate(over="ignore"):
        single = np.ascontiguousarray(values, np.float32)
    fit = np.isfinite(single)
    if may_miss:
        fit |= np.isnan(single)
    if not fit.all():
        row, column = map(int, np.argwhere(~fit)[0])
        value = values[row, column]
        what = "a value is missing" if np.isnan(value) else f"{value} is not a finite float32"
        name = repr(columns[column]) if columns else column + 1
        raise InputError(f"{path}: row {numbered(row, rows)}, column {name}: {what}; correct or drop the row")
    return single


def exact_features(
    values: Array,
    path: Path,
    columns: list[str] | None = None,
    rows: Array | None = None,
    may_miss: bool = False,
) -> Array:
    """As compact_features, but float64 if float32 would make values of a column alike: dates in seconds, for example.

    Raises InputError as compact_features does.
    """
    compact = compact_features(values, path, columns, rows, may_miss)
    if compact.dtype == np.uint8:
        return compact
    least, most = (np.nanmin, np.nanmax) if may_miss else (np.min, np.max)
    if not needs_double(least(values, axis=0), most(values, axis=0)):
        return compact
    return np.ascontiguousarray(values, np.float64)


def needs_double(least: Array, most: Array) -> bool:
    """Whether float32 would round away what tells the values of a column apart. least, most: of each column (d,)."""
    spread = most.astype(np.float64) - least
    largest = np.maximum(np.abs(least.astype(np.float64)), np.abs(most.astype(np.float64)))
    return bool((largest > ROUNDING * spread)[spread > 0].any())
