"""From tables of rows to the datasets that a network trains on and is judged by."""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from ddp_numpy.base.columns import are_plain, encode, flags
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.classes import Array, known_labels
from ddp_numpy.data.dataset import Dataset, exact_features
from ddp_numpy.data.doubts import doubts
from ddp_numpy.data.fit_columns import as_features, fit_columns, unseen
from ddp_numpy.data.fit_scale import fit_scale
from ddp_numpy.data.table import Table

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd


def prepare(train: Table, scale: str, missing: str) -> Dataset:
    """The rows to train on, with all that they alone decide, of others too.

    That is how columns become features, how these are scaled, and numbers to predict. scale: see fit_scale; missing:
    see TableOptions. Raises InputError as these do.
    """
    columns = fit_columns(train, missing)
    features = as_features(train, columns).features
    target, classes = None, 0
    if train.predicts_numbers:
        target = fit_scale("standard", train.labels[:, np.newaxis])
    else:
        classes = len(train.class_names) or int(train.labels.max()) + 1
    fitted = fit_scale(scale, features, None if are_plain(columns) else flags(columns))
    names = train.class_names, columns, train.label, target, train.notes
    return Dataset(features, train.labels, classes, fitted, *names)


def other_rows(table: Table, train: Dataset) -> Dataset:
    """Other rows of the table that the rows to train on are of."""
    features = as_features(table, train.columns).features
    notes = tuple(map(one_line, unseen(table, train.columns)))
    return dataclasses.replace(train, features=features, labels=table.labels, notes=notes)


def follow(table: "pd.DataFrame", train: Dataset, path: "Path", missing: str) -> Dataset:
    """The labelled rows of another table, in the columns, classes and scales of the rows to train on.

    missing: "drop" leaves rows out that have a missing value. Raises InputError if a column is not there, for a value
    that can't be used, and for a label that no row to train on has.
    """
    import pandas as pd

    table = table.rename(columns=str)
    names = [train.label, *(column.name for column in train.columns)]
    for name in names:
        if name not in table.columns:
            raise InputError(f"{path}: has no column {name!r}, which the rows to train on have")
    table = table[names]
    table.index = pd.RangeIndex(1, len(table) + 1)  # the rows' numbers, which they keep if others are dropped
    if missing == "drop":
        table = table.dropna()
    if not len(table):
        raise InputError(f"{path}: has no rows{' without a missing value' if missing == 'drop' else ''}")
    if (missing_labels := table[train.label].isna().to_numpy()).any():
        row = table.index[int(np.argmax(missing_labels))]
        raise InputError(
            f"{path}: row {row}, column {train.label!r}: the label is missing; drop the row, or all such rows with "
            "--missing drop"
        )
    try:
        features = encode(train.columns, table)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return labelled(features, table[train.label].to_numpy(), train, path, table.index.to_numpy())


def labelled(features: Array, labels: Array, train: Dataset, path: "Path", rows: Array | None = None) -> Dataset:
    """Rows with features (n, d) as those to train on have them, and labels (n,) as they stand in the data.

    rows (n,): their numbers for people, by default from 1. Raises InputError for features of another width, and labels
    that no row to train on has or that are no numbers.
    """
    if features.shape[1:] != train.features.shape[1:]:
        width, wanted = (" x ".join(map(str, shape)) for shape in (features.shape[1:], train.features.shape[1:]))
        raise InputError(f"{path}: its rows have {width} features, and those to train on {wanted}")
    features = exact_features(features, path, rows=rows)
    names = None if train.target is not None else train.class_names or tuple(range(train.classes))
    found = known_labels(labels, names, train.label, path, rows)
    return dataclasses.replace(train, features=features, labels=found, notes=())


def with_doubts(train: Dataset, valid: Dataset) -> tuple[Dataset, Dataset]:
    """The same, with all that people should know of both, and what is odd about them."""
    notes, found = (*train.notes, *valid.notes), tuple(map(one_line, doubts(train, valid)))
    return tuple(dataclasses.replace(data, notes=notes, doubts=found) for data in (train, valid))  # type: ignore[return-value]
