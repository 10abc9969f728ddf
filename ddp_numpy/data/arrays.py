"""Labelled rows from memory: a table, or features and labels."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.classes import Array, find_labels
from ddp_numpy.data.dataset import exact_features
from ddp_numpy.data.table import Table, TableOptions, make_table

NAMED = Path("the data")
"""What messages call rows that came from no file."""


def from_memory(source: Any, options: TableOptions) -> Table:
    """The labelled rows of a pandas DataFrame, or of a pair X (n, …), y (n,): arrays, or what NumPy makes arrays of.

    Raises InputError as `make_table` and `from_arrays` do.
    """
    found = frame_or_pair(source, options.label_column or "label")
    if isinstance(found, tuple):
        X, y = found
        return from_arrays(X, y, NAMED, options.task)
    if isinstance(source, tuple):
        options = dataclasses.replace(options, label_column=found.columns[-1])
    return make_table(found, NAMED, options)


def frame_or_pair(source: Any, label: str) -> Any:
    """A DataFrame, or a pair X, y of arrays, of rows in memory. Of a DataFrame X and y: with y as its last column.

    label: what that column is called, unless y has a name, and no feature is called so. Raises InputError for any other
    source.
    """
    if hasattr(source, "iloc"):
        return source.copy()
    if not isinstance(source, tuple) or len(source) != 2:
        raise InputError(f"{NAMED}: must be a name, a path, a DataFrame, or a pair X, y; not {type(source).__name__}")
    X, y = source
    labels = np.asarray(y)
    if labels.dtype.kind == "U" and not hasattr(y, "dtype"):
        labels = np.array(y, object)  # of a list of texts, NumPy has made "nan" of a NaN among them
    if labels.dtype.kind == "O":
        missing = [value is None or value != value for value in labels.tolist()]
        if True in missing:
            raise InputError(f"{NAMED}: row {missing.index(True) + 1}: the label is missing; drop the row")
        labels = labels.astype(str).astype(object)
    if not hasattr(X, "iloc"):
        return np.asarray(X), labels
    if labels.shape != (len(X),):
        raise InputError(f"{NAMED}: X has {len(X):,} rows, and y the shape {labels.shape}")
    name = str(getattr(y, "name", None) or label)
    while name in map(str, X.columns):
        name += "_"
    return X.assign(**{name: labels})


def from_arrays(X: Array, y: Array, path: Path, task: str | None) -> Table:
    """The labelled rows of X (n, …), numbers, and y (n,), numbers, booleans or texts. task: see TableOptions.

    Raises InputError for arrays of another kind or shape, and as `find_labels` does.
    """
    check_pair(X, y, path)
    return Table(exact_features(X.reshape(len(X), -1), path), *find_labels(y, "y", path, task))


def check_pair(X: Array, y: Array, path: Path) -> None:
    """Raise InputError unless X (n, …) holds numbers, and y (n,) numbers, booleans or texts."""
    for name, array, kinds in (("X", X, "iufb"), ("y", y, "iufbUO")):
        if array.dtype.kind not in kinds:
            raise InputError(f"{path}: {name} holds {array.dtype}, not numbers")
    if y.ndim != 1 or X.ndim < 2 or len(X) != len(y) or not X.size:
        raise InputError(f"{path}: X {X.shape} and y {y.shape} must have the shapes (n, …) and (n,), n above 0")
