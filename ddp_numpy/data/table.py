"""From a table as a file has it to labelled rows of numbers: which column is the label, and what the others are."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.classes import MANY_CLASSES, Name, find_labels, in_short
from ddp_numpy.data.dataset import exact_features

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
LABEL_NAMES = ("label", "target", "class")
"""Of a column that holds the labels unless another one is asked for, in large or small letters; the first wins."""
_LEAST_COUNTED = 10  # rows of a table of which a column that counts them is not taken for chance
UNNAMED = "Unnamed: "
"""How pandas calls a column whose name in the header line is empty."""


@dataclasses.dataclass(frozen=True)
class TableOptions:
    """How a table is to be read."""

    label_column: str | None = None
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    header: bool = True
    """Whether the first line of a file of text names the columns; if not, they are called 1, 2, 3 …"""
    encoding: str = "utf-8"
    """Of files of text."""
    task: str | None = None
    """"classify" or "regress"; None: classify, unless the label looks like a measurement."""

    def __post_init__(self) -> None:
        """Raise InputError for a task or an encoding that there is not."""
        if self.task not in (None, "classify", "regress"):
            raise InputError(f"task {self.task!r}: must be 'classify' or 'regress'")
        try:
            "a".encode(self.encoding)
        except LookupError:
            raise InputError(f"encoding {self.encoding!r}: none that Python knows for texts") from None

    def named_label(self, columns: list[str], path: Path) -> tuple[str, str] | None:
        """The column with the labels, and why it is that one, if names alone say so.

        Raises InputError if no column has the name that is asked for.
        """
        if (wanted := self.label_column) is not None:
            if wanted not in columns:
                raise InputError(
                    f"{path}: no label column {wanted!r}; its columns are {in_short(tuple(columns))}: choose with "
                    "--label-column"
                )
            return wanted, "asked for"
        for name in LABEL_NAMES:
            for column in columns:
                if column.lower() == name:
                    return column, "by its name"
        return None


DEFAULTS = TableOptions()


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of numbers, each with a class or with a number to predict."""

    features: Array
    """(n, d), uint8, float32 or float64."""
    labels: Array
    """(n,), int64, numbers of classes; or float64, numbers to predict."""
    class_names: tuple[Name, ...] = ()
    """() if the classes are called 0, 1, 2 …"""
    columns: tuple[str, ...] = ()
    """The features' names; () if they have none."""
    notes: tuple[str, ...] = ()
    """What people should know of how the columns were taken."""

    @property
    def predicts_numbers(self) -> bool:
        """Whether the labels are numbers to predict, and not classes."""
        return self.labels.dtype.kind == "f"

    def rows(self, chosen: Array) -> "Table":
        """Of these row numbers."""
        return dataclasses.replace(self, features=self.features[chosen], labels=self.labels[chosen])

    def check(self) -> None:
        """Raise ValueError unless the arrays can be those of a table."""
        features, labels, names = self.features, self.labels, self.class_names
        if features.ndim != 2 or not features.size or features.dtype not in (np.uint8, np.float32, np.float64):
            raise ValueError(f"features are {features.dtype} {features.shape}")
        if len(self.columns) not in (0, features.shape[1]):
            raise ValueError(f"{len(self.columns)} names of {features.shape[1]} columns")
        if labels.dtype == np.float64:
            is_fit = not names and bool(np.isfinite(labels).all())
        else:
            present = np.unique(labels)
            is_fit = labels.dtype == np.int64 and np.array_equal(present, np.arange(len(names) or len(present)))
        if not is_fit or labels.shape != features.shape[:1]:
            raise ValueError(f"labels are {labels.dtype} {labels.shape}, of {len(names)} classes")


def make_table(frame: "pd.DataFrame", path: Path, options: TableOptions) -> Table:
    """The labelled rows of a table.

    The label is the column that is asked for; else the one called label, target or class; else the first, if it looks
    as if it held classes. A column that counts the rows is left out. Raises InputError for a value that can't be used,
    and names its row (from 1) and its column.
    """
    names = frame.columns = list(map(str, frame.columns))
    if unknown := [name for name in options.drop if name not in names]:
        raise InputError(f"{path}: --drop {unknown[0]}: its columns are {in_short(tuple(names))}")
    notes, left_out = [], list(options.drop)
    for name in names:
        what = _of_no_use(frame[name]) if name.startswith(UNNAMED) and name not in options.drop else None
        if what is not None:
            notes.append(f"a column without a name {what}: left out")
            left_out.append(name)
    if left_out:  # each time, the whole table is copied
        frame = frame.drop(columns=left_out)
    names = list(frame.columns)
    if len(names) < 2:
        raise InputError(f"{path}: has {len(names)} column left; a label and at least one feature are needed")
    label = options.named_label(names, path) or _guessed_label(frame, path, options.task)
    if frame.attrs.get("header", []).count(label[0]) > 1:
        raise InputError(f"{path}: more than one column is called {label[0]!r}; keep one of them")
    features, labels = frame.drop(columns=label[0]), _labels(frame[label[0]], path)
    _make_numbers(features, path)
    return table_of(features.to_numpy(), list(features.columns), labels, label, notes, path, options.task)


def table_of(
    values: Array,
    columns: list[str],
    labels: Array,
    label: tuple[str, str],
    notes: list[str],
    path: Path,
    task: str | None,
) -> Table:
    """The table of these features (n, d), without columns that count the rows, and labels (n,) as find_labels takes.

    label: the column of labels, and why it is that one. What a row's number says of its label is an accident of their
    order, and nothing of a new row. Raises InputError for a number that is not finite, labels that can't be learnt, or
    if no feature is left.
    """
    another = ", or choose another column with --label-column"
    targets, class_names = find_labels(labels, f"label column {label[0]!r}", path, task, another)
    enough = len(values) >= _LEAST_COUNTED
    counting = [number for number in range(len(columns)) if enough and _counts_rows(values[:, number])]
    if counting:
        kept = [number for number in range(len(columns)) if number not in counting]
        if not kept:
            raise InputError(f"{path}: its only feature, {columns[0]!r}, counts the rows; others are needed")
        notes = [*notes, *(f"column {columns[number]!r} counts the rows: left out" for number in counting)]
        values, columns = values[:, kept], [columns[number] for number in kept]
    features = exact_features(values, path, columns)
    notes = [f"label is column {label[0]!r}, {label[1]}", *notes]
    return Table(features, targets, class_names, tuple(columns), tuple(map(one_line, notes)))


def _of_no_use(column: "pd.Series") -> str | None:
    """Why a column without a name is left out; None if it is not."""
    if column.dtype.kind == "i" and _counts_rows(column.to_numpy()):
        return "counts the rows"
    return "is empty" if column.isna().all() else None


def _counts_rows(values: Array) -> bool:
    """Whether they count from 0 or 1. Nearly all columns are seen by their ends not to."""
    first, last = float(values[0]), float(values[-1])
    return first in (0, 1) and last == first + len(values) - 1 and bool((np.diff(values) == 1).all())


def _guessed_label(frame: "pd.DataFrame", path: Path, task: str | None) -> tuple[str, str]:
    """The first column, and so in words. Raises InputError if it does not look as if it held what the task is for."""
    first, values = frame.columns[0], frame.iloc[:, 0]
    different = values.nunique()
    if different == 1:
        what = "has one value in all rows"
    elif different == len(values):
        what = "has another value in each row, as an index has"
    elif task == "regress":
        what = "may be anything"
    elif values.dtype.kind == "f" and (values.dropna() != np.rint(values.dropna())).any():
        what = "has fractions, as measurements have"
    elif values.dtype.kind in "iuf" and different > MANY_CLASSES:
        what = f"has {different:,} different numbers, as measurements have"
    else:
        return first, "the first"
    raise InputError(
        f"{path}: which column is the label? None is called {', '.join(LABEL_NAMES[:-1])} or {LABEL_NAMES[-1]}, and "
        f"the first, {first!r}, {what}; its columns are {in_short(tuple(frame.columns))}: choose with --label-column"
    )


def _labels(column: "pd.Series", path: Path) -> Array:
    """The labels (n,) as numbers, booleans or texts. Raises InputError if one is missing."""
    missing = column.isna().to_numpy()
    if missing.any():
        row = int(np.argmax(missing))
        raise InputError(f"{path}: row {row + 1}, column {column.name!r}: the label is missing; drop the row")
    return column.to_numpy() if column.dtype.kind in "iufb" else column.astype(str).to_numpy(object)


def _make_numbers(table: "pd.DataFrame", path: Path) -> None:
    """Give every column a number type: pandas keeps whole numbers beyond 64 bits as text. True is 1, and False 0.

    Raises InputError for the first value, column by column, that is text, missing or infinite.
    """
    import pandas as pd

    changed = {}
    for name, column in table.items():
        if column.dtype.kind in "iu":
            continue
        if column.dtype.kind == "b":
            changed[name] = column.to_numpy(np.uint8)
            continue
        if column.dtype.kind == "f":
            numbers = column.to_numpy()
        else:
            numbers = changed[name] = pd.to_numeric(column.astype(str), errors="coerce").to_numpy(np.float64)
        finite = np.isfinite(numbers)
        if finite.all():
            continue
        row = int(np.argmin(finite))
        value = column.iloc[row]
        if pd.isna(value):
            what = "a value is missing; correct or drop the row"
        elif finite.mean() < 0.5 and not np.isinf(numbers[row]):
            what = f"{str(value)!r} is no number, and most others are none; leave the column out with --drop "
            what += shlex.quote(str(name))
        else:
            what = (
                f"{str(value)!r} is not a {'finite ' if np.isinf(numbers[row]) else ''}number; correct or drop the row"
            )
        raise InputError(f"{path}: row {row + 1}, column {str(name)!r}: {what}")
    for name, numbers in changed.items():
        table[name] = numbers
