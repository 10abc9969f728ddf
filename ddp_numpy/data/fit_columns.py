"""From the columns of a table to the features that a network takes, by the rows that train."""

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np

from ddp_numpy.base.columns import Column, are_plain, expand, feature_names
from ddp_numpy.base.errors import InputError
from ddp_numpy.data.classes import Array
from ddp_numpy.data.mapped import Make, MappedRows, one_feature
from ddp_numpy.data.table import Table


def fit_columns(train: Table, missing: str) -> tuple[Column, ...]:
    """How each column becomes features, as the rows that train say. Rows that validate have no part in it.

    missing: see TableOptions. () if the columns have no names. Raises InputError for a column that has no value in the
    rows that train, but some in others.
    """
    if missing != "mean" and not train.categories:  # there are only numbers, and none is missing
        return tuple(map(Column, train.columns))
    columns = []
    for number, name in enumerate(train.columns):
        values = one_feature(train.features, number)
        present = values[~np.isnan(values)]
        if not present.size:
            raise InputError(f"column {name!r} has no value in any row to train on; leave it out with --drop")
        known = train.categories[number] if train.categories else ()
        categories = tuple(known[int(code)] for code in np.unique(present)) if known else ()
        fill = None
        if missing == "mean":
            fill = 0.0 if categories else float(present.mean(dtype=np.float64))
        columns.append(Column(name, categories, fill, len(present) < len(values)))
    return tuple(columns)


def as_features(table: Table, columns: tuple[Column, ...]) -> Table:
    """The table of features that these columns make of it. A category that none of them has is none of its features."""
    if are_plain(columns):
        return table
    names, features = feature_names(columns), table.features
    make = Make(functools.partial(_expanded, columns, table.categories), len(names))
    made = features.made_by(make) if isinstance(features, MappedRows) else make(features)
    return dataclasses.replace(table, features=made, columns=names, categories=())


def _expanded(columns: tuple[Column, ...], known: tuple[tuple[str, ...], ...], rows: Array) -> Array:
    """The features (m, d) of some rows of a table (m, k). known: the table's categories."""
    given = [
        _codes(rows[:, number], known[number], column) if column.categories else rows[:, number]
        for number, column in enumerate(columns)
    ]
    return expand(columns, given, rows.dtype)


def unseen(table: Table, columns: tuple[Column, ...]) -> Iterator[str]:
    """Lines for people on categories of these rows that no row to train on has."""
    for number, column in enumerate(columns):
        if column.categories:
            codes = _codes(one_feature(table.features, number), table.categories[number], column)
            rows = int(np.sum(codes < 0))
            if rows:
                yield (
                    f"column {column.name!r}: no row to train on has the category of {rows:,} to validate, so all its "
                    "features are 0"
                )


def _codes(given: Array, known: tuple[str, ...], column: Column) -> Array:
    """The numbers of a column's own categories, given (n,) those of the table's: see expand."""
    places = {category: place for place, category in enumerate(column.categories)}
    codes = np.array([*(places.get(category, -1) for category in known), np.nan])
    found: Array = codes[np.where(np.isnan(given), len(known), given).astype(np.intp)]
    return found
