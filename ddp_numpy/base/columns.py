"""The columns of a table, and the features that a network takes of each.

A column of numbers is one feature. A column of categories is one feature for each of them, 1 in the rows that have it
and 0 in all others (one-hot). A column in which values may be missing can have one more feature, 1 where one is.
"""

import dataclasses
import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.rows import numbered
from ddp_numpy.base.scale import Scale

Array = npt.NDArray[Any]
_SHOWN = 30  # columns of a plan, and categories of a column


@dataclasses.dataclass(frozen=True)
class Column:
    """How one column becomes features."""

    name: str
    categories: tuple[str, ...] = ()
    """Of a column of categories, those that it had in training, sorted; () of a column of numbers."""
    fill: float | None = None
    """What stands for a missing number; of categories 0. None: a missing value is refused."""
    indicator: bool = False
    """Whether one more feature tells whether the value is missing."""

    @property
    def features(self) -> tuple[str, ...]:
        """The features' names: ("sex=female", "sex=male"), or ("age", "age is missing")."""
        named = tuple(f"{self.name}={category}" for category in self.categories) or (self.name,)
        return (*named, f"{self.name} is missing") if self.indicator else named

    @property
    def is_plain(self) -> bool:
        """Whether it is a number that is never missing."""
        return not self.categories and self.fill is None

    def __str__(self) -> str:
        kind = f"{len(self.categories)} categories" if self.categories else "number"
        return kind if not self.indicator else f"{kind}, may be missing"

    def description(self) -> Any:
        """As JSON can hold it; `of` takes it back."""
        if self.is_plain:
            return self.name
        categories = {"categories": list(self.categories)} if self.categories else {}
        fill = {} if self.fill is None else {"fill": self.fill, "indicator": self.indicator}
        return {"name": self.name, **categories, **fill}

    @classmethod
    def of(cls, described: Any) -> "Column":
        """The column of a description, checked against its schema. Raises InputError for categories that are equal."""
        if isinstance(described, str):
            return cls(described)
        categories = tuple(described.get("categories", ()))
        if len(set(categories)) < len(categories):
            raise InputError(f"column {described['name']!r} has the same category twice")
        return cls(described["name"], categories, described.get("fill"), described.get("indicator", False))


def are_plain(columns: Sequence[Column]) -> bool:
    """Whether the features are the columns as they are."""
    return all(column.is_plain for column in columns)


def feature_names(columns: Sequence[Column]) -> tuple[str, ...]:
    """Of all columns."""
    return tuple(name for column in columns for name in column.features)


def plan(columns: Sequence[Column], scale: Scale) -> list[str]:
    """Lines for people: each column's name, kind, and what is made of its values."""
    lines, first = [], 0
    for column in columns[:_SHOWN]:
        statistics = ", ".join(column.categories[:_SHOWN]) or scale.words_of(first)
        if column.fill is not None:
            statistics += "; if missing, all 0" if column.categories else f"; if missing, {column.fill:.5g}"
        lines.append((column.name, str(column), statistics))
        first += len(column.features)
    wide, kinds = (max(len(line[place]) for line in lines) for place in (0, 1))
    shown = [one_line(f"{name:<{wide}}  {kind:<{kinds}}  {statistics}") for name, kind, statistics in lines]
    return [*shown, f"… and {len(columns) - _SHOWN:,} more"] if len(columns) > _SHOWN else shown


def flags(columns: Sequence[Column]) -> Array:
    """Which features (d,) are 1 or 0 for yes or no, and so are not scaled."""
    return np.array([name != column.name for column in columns for name in column.features], bool)


def expand(columns: Sequence[Column], values: Sequence[Array], dtype: npt.DTypeLike) -> Array:
    """The features (n, d) of columns (n,): numbers, NaN if one is missing; or numbers of categories.

    A number of a category is its place in `Column.categories`; -1 if it is none of them, and NaN if it is missing.
    """
    n = len(values[0])
    features = np.zeros((n, len(feature_names(columns))), dtype)
    first = 0
    for column, given in zip(columns, values, strict=True):
        missing = np.isnan(given)
        if column.categories:
            (rows,) = np.nonzero(given >= 0)
            features[rows, first + given[rows].astype(np.intp)] = 1
        else:
            features[:, first] = given if column.fill is None else np.where(missing, column.fill, given)
        first += len(column.features)
        if column.indicator:
            features[:, first - 1] = missing
    return features


def encode(columns: Sequence[Column], X: Any, rows: Any | None = None) -> Array:
    """The features (n, d), float64, of raw rows: a table with the columns' names, or an array (n, k) of such columns.

    rows: their numbers for people, by default from 1.
    A category that no row had in training is none of the column's: all its features are 0, and a warning says so.
    Raises InputError for a missing column, text in place of a number, and a missing value if the column has no fill.
    """
    values = []
    for number, column in enumerate(columns):
        if hasattr(X, "columns"):
            given, missing = X[column.name], X[column.name].isna().to_numpy()
        else:
            given = np.asarray(X)[:, number]
            missing = np.array([value is None or value != value for value in given.tolist()], bool)
        if column.fill is None and missing.any():
            row = numbered(int(np.argmax(missing)), rows)
            raise InputError(one_line(f"row {row}, column {column.name!r}: a value is missing; drop the row"))
        if not column.categories and np.asarray(given).dtype.kind in "iufb":
            values.append(np.asarray(given, np.float64))
            continue
        found = np.full(len(missing), np.nan)
        present = np.asarray(given, object)[~missing]
        found[~missing] = _codes(column, present) if column.categories else _numbers(present)
        if (wrong := np.isnan(found) & ~missing).any():
            row = int(np.argmax(wrong))
            what = (
                f"row {numbered(row, rows)}, column {column.name!r}: {np.asarray(given, object)[row]!r} is not a number"
            )
            raise InputError(one_line(f"{what}; correct or drop the row"))
        values.append(found)
    return expand(columns, values, np.float64)


def texts_of(values: Array) -> Array:
    """Categories (n,) as texts, of whatever type they are: 3 and 3.0 are both "3"."""
    return np.array([_text(value) for value in values.tolist()], object)


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _codes(column: Column, present: Array) -> Array:
    """The numbers of categories, -1 of one that is not known."""
    places = {category: place for place, category in enumerate(column.categories)}
    texts = texts_of(present)
    codes = np.array([places.get(text, -1) for text in texts], np.float64)
    if (unknown := texts[codes < 0]).size:
        rows = f"{unknown.size} row{'s' * (unknown.size > 1)}"
        warnings.warn(
            one_line(f"column {column.name!r}: {unknown[0]!r} was in no row of training, and is taken for none of its ")
            + f"categories ({rows})",
            stacklevel=2,
        )
    return codes


def _numbers(present: Array) -> Array:
    """Values as numbers (n,), NaN of what is none."""
    try:
        return present.astype(np.float64)
    except (TypeError, ValueError, OverflowError):
        return np.array([_number(value) for value in present], np.float64)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
