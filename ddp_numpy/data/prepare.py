"""From tables of rows to the datasets that a network trains on and is judged by."""

import numpy as np

from ddp_numpy.base.columns import are_plain, flags
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.dataset import Dataset
from ddp_numpy.data.doubts import doubts
from ddp_numpy.data.fit_columns import as_features, fit_columns, unseen
from ddp_numpy.data.fit_scale import fit_scale
from ddp_numpy.data.table import Table


def prepare(train: Table, valid: Table, scale: str, missing: str) -> tuple[Dataset, Dataset]:
    """The rows to train on and those to validate, with all that the first alone decide of both.

    That is how columns become features, and how these are scaled, and numbers to predict. scale: see fit_scale;
    missing: see TableOptions. Raises InputError as these do.
    """
    columns = fit_columns(train, missing)
    notes = (*train.notes, *map(one_line, unseen(valid, columns)))
    train, valid = (as_features(table, columns) for table in (train, valid))
    fitted = fit_scale(scale, train.features, None if are_plain(columns) else flags(columns))
    target, classes = None, 0
    if train.predicts_numbers:
        target = fit_scale("standard", train.labels[:, np.newaxis])
    else:
        classes = len(train.class_names) or int(train.labels.max()) + 1
    found = tuple(map(one_line, doubts(train, valid, fitted)))
    return tuple(  # type: ignore[return-value]
        Dataset(table.features, table.labels, classes, fitted, table.class_names, columns, target, notes, found)
        for table in (train, valid)
    )
