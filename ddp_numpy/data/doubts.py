"""What is odd about rows that can be trained on, in a line each, with what to do."""

from collections.abc import Iterator

import numpy as np

from ddp_numpy.base.columns import feature_names
from ddp_numpy.data.classes import in_short
from ddp_numpy.data.dataset import Dataset
from ddp_numpy.data.mapped import blocks, extremes

_LEAST_ROWS = 10  # of a class
_LARGEST_RATIO = 1000.0  # between the scales of two columns
_MOST_BYTES = 2**24  # of rows that are compared: so it takes some hundredths of a second
_MOST_ROWS = 30_000


def doubts(train: Dataset, valid: Dataset) -> Iterator[str]:
    """Lines for people about the rows of a source and how they are scaled; none if there is nothing odd."""
    columns = feature_names(train.columns)
    if train.target is None:
        counts = np.bincount(train.labels)
        few = [number for number, rows in enumerate(counts) if rows < _LEAST_ROWS]
        if few:
            names = in_short(tuple(train.class_names[number] if train.class_names else number for number in few))
            yield f"fewer than {_LEAST_ROWS} rows to train on are of class {names}: more are needed, or fewer classes"
    if columns and train.scale.shift is not None:
        constant = np.flatnonzero(np.equal(*extremes(train.features)))
        if constant.size:
            names = in_short(tuple(columns[number] for number in constant))
            yield f"one value in all rows to train on, in column {names}: --drop leaves a column out"
    elif columns:
        largest = np.abs(np.array(extremes(train.features), np.float64)).max(axis=0)
        least, most = int(np.argmin(np.where(largest > 0, largest, np.inf))), int(np.argmax(largest))
        if largest[most] > _LARGEST_RATIO * largest[least] > 0:
            large, small = columns[most], columns[least]
            yield f"column {large!r} is over {_LARGEST_RATIO:,.0f} times as large as {small!r}: try --scale standard"
    if (twice := _in_both(train, valid)) > 0:
        yield (
            f"{twice:,} of {len(valid.features):,} rows that validate also stand among those to train on: keep one of "
            "each, or the figures look better than they are"
        )


def _in_both(train: Dataset, valid: Dataset) -> int:
    """How many rows that validate are equal to one that trains, label and all; 0 of so many that it would take long."""
    if len(train.features) > _MOST_ROWS or train.features.nbytes > _MOST_BYTES:
        return 0
    seen = set(_rows(train))
    return sum(row in seen for row in _rows(valid))


def _rows(data: Dataset) -> Iterator[tuple[bytes, float]]:
    """Alike of any type of features: float64 holds all of them exactly, and float32 would make large ones equal."""
    features = (row for block in blocks(data.features) for row in block)
    for row, label in zip(features, data.labels.tolist(), strict=True):
        yield row.astype(np.float64).tobytes(), label
