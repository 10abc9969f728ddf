"""What a column of labels says: which classes, or which numbers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.columns import texts_of
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.rows import numbered

Array = npt.NDArray[Any]
Name = str | int | bool
"""What a class is called in the data."""
_SHOWN = 6  # names of a header line
MANY_CLASSES = 50
"""Whole numbers with more values than this look like measurements, not classes."""
_LEAST_ROWS = 5  # of a class, on average, if there are that many
_EXACT = 2**53  # float64 holds every whole number up to here exactly


def find_labels(
    labels: Array, what: str, path: Path, task: str | None, advice: str = "", rows: Array | None = None
) -> tuple[Array, tuple[Name, ...]]:
    """Labels (n,) for a task: numbers of classes, int64, and their names, as find_classes returns them; or float64, ().

    what: the labels, for people; advice: what else may help, "or …". task: "classify", "regress", or None: classify,
    but not what looks like a measurement. rows (n,): the rows' numbers for people, by default from 1. Raises
    InputError as find_classes does, for what is no number if a number is to be predicted, and if the task is not sure.
    """
    if task == "regress":
        return _numbers(labels, what, path, rows), ()
    ask = f"predict a number with --task regress{advice}"
    if task is None and labels.dtype.kind == "f":
        has_fraction = np.isfinite(labels) & (labels != np.rint(labels))
        if has_fraction.any():
            at = int(np.argmax(has_fraction))
            raise InputError(f"{path}: row {numbered(at, rows)}: {what} is {labels[at]}, which is no class; {ask}")
    classes, names = find_classes(labels, path, rows)
    different = len(names) or int(classes.max()) + 1
    if task is None and labels.dtype.kind in "iuf" and different > max(MANY_CLASSES, len(labels) / _LEAST_ROWS):
        raise InputError(
            f"{path}: {what} has {different:,} different numbers in {len(labels):,} rows: {ask}, or take each for a "
            "class with --task classify"
        )
    return classes, names


def _numbers(labels: Array, what: str, path: Path, rows: Array | None) -> npt.NDArray[np.float64]:
    """Labels as numbers. Raises InputError for one that is none, and if all are the same."""
    try:
        numbers = labels.astype(np.float64)
    except ValueError as error:
        raise InputError(f"{path}: --task regress predicts numbers, and {what} holds text: {one_line(error)}") from None
    finite = np.isfinite(numbers)
    if not finite.all():
        at = int(np.argmin(finite))
        raise InputError(
            f"{path}: row {numbered(at, rows)}: {what} is {labels[at]}, no finite number; correct or drop the row"
        )
    if (numbers == numbers[0]).all():
        raise InputError(f"{path}: {what} is {labels[0]} in all {len(labels):,} rows: there is nothing to learn")
    return numbers


def find_classes(
    labels: Array, path: Path, rows: Array | None = None
) -> tuple[npt.NDArray[np.int64], tuple[Name, ...]]:
    """Labels (n,) as numbers of classes (n,), and the classes' names, in sorted order; () if these are 0, 1, 2 ….

    labels: whole numbers, in any numeric type, booleans, or texts (str objects). Raises InputError for a label that is
    missing or has a fraction, and if all are the same; the error names the row, from 1.
    """
    if labels.dtype.kind == "f":
        labels = labels.astype(np.float64)
        # Beyond 2^53 not each whole number is a float64.
        wrong = ~(np.abs(labels) <= _EXACT) | (labels != np.rint(labels))
        if wrong.any():
            at = int(np.argmax(wrong))
            what = "label is missing" if np.isnan(labels[at]) else f"label {labels[at]} is no whole number up to 2^53"
            raise InputError(f"{path}: row {numbered(at, rows)}: {what}; correct or drop the row")
        labels = labels.astype(np.int64)
    found, classes = np.unique(labels, return_inverse=True)
    names: tuple[Name, ...] = tuple(found.tolist())
    if len(names) < 2:
        shown = one_line(str(names[0]))
        raise InputError(f"{path}: all {len(labels):,} rows have the label {shown}: at least two classes are needed")
    return classes.astype(np.int64, copy=False), names if labels.dtype.kind == "b" else plain(names)


def known_labels(labels: Array, names: Sequence[Name] | None, label: str, path: Path, rows: Any | None = None) -> Array:
    """Labels (n,) as they stand in the data, as numbers of these classes, int64; of no classes as numbers, float64.

    label: what they are called; rows: RowNumbers, or all numbers (n,), by default from 1. Raises InputError for a label
    that is none of the classes, or no finite number.
    """
    if names is not None:
        places = {str(name): place for place, name in enumerate(names)}
        found = np.array([places.get(text, -1) for text in texts_of(labels)], np.int64)
        if (unknown := found < 0).any():
            at = int(np.argmax(unknown))
            raise InputError(
                f"{path}: row {numbered(at, rows)}: label {one_line(labels[at])} is none of the classes to train on, "
                f"{in_short(tuple(names))}"
            )
        return found
    try:
        numbers = labels.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: column {label!r} must hold numbers: {one_line(error)}") from None
    if not np.isfinite(numbers).all():
        at = int(np.argmin(np.isfinite(numbers)))
        raise InputError(f"{path}: row {numbered(at, rows)}: the label {labels[at]} is no finite number")
    return numbers


def plain(names: tuple[Name, ...]) -> tuple[Name, ...]:
    """The names; () if they are 0, 1, 2 …"""
    return () if names == tuple(range(len(names))) else names


def in_short(names: tuple[Name, ...]) -> str:
    """The names for people: not all of them, if there are many."""
    words = [str(name) for name in names[: _SHOWN + 1]]
    if len(names) > _SHOWN + 1:
        words[_SHOWN:] = ["…", str(names[-1])]
    return one_line(", ".join(words))
