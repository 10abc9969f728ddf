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
    if hasattr(source, "iloc"):
        return make_table(source.copy(), NAMED, options)
    if not isinstance(source, tuple) or len(source) != 2:
        raise InputError(f"{NAMED}: must be a name, a path, a DataFrame, or a pair X, y; not {type(source).__name__}")
    X, y = source
    if hasattr(X, "iloc"):
        label = _new_name(y, X)
        labelled = X.assign(**{label: np.asarray(y)}) if len(X) == len(y) else X
        return make_table(labelled, NAMED, dataclasses.replace(options, label_column=label))
    labels = np.asarray(y)
    if labels.dtype.kind == "O":
        labels = labels.astype(str).astype(object)
    return from_arrays(np.asarray(X), labels, NAMED, options.task)


def _new_name(y: Any, X: Any) -> str:
    """What labels are called beside these columns, if possible as they are called by themselves."""
    name = str(getattr(y, "name", None) or "label")
    while name in map(str, X.columns):
        name += "_"
    return name


def from_arrays(X: Array, y: Array, path: Path, task: str | None) -> Table:
    """The labelled rows of X (n, …), numbers, and y (n,), numbers, booleans or texts. task: see TableOptions.

    Raises InputError for arrays of another kind or shape, and as `find_labels` does.
    """
    for name, array, kinds in (("X", X, "iufb"), ("y", y, "iufbUO")):
        if array.dtype.kind not in kinds:
            raise InputError(f"{path}: {name} holds {array.dtype}, not numbers")
    if y.ndim != 1 or X.ndim < 2 or len(X) != len(y) or not X.size:
        raise InputError(f"{path}: X {X.shape} and y {y.shape} must have the shapes (n, …) and (n,), n above 0")
    return Table(exact_features(X.reshape(len(X), -1), path), *find_labels(y, "y", path, task))
