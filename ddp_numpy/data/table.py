"""From a table as a file has it to labelled rows of numbers: which column is the label, and what the others are."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.rows import numbered
from ddp_numpy.data.classes import MANY_CLASSES, Name, find_labels, in_short
from ddp_numpy.data.dataset import exact_features
from ddp_numpy.data.features import make_numbers, to_plain_numbers
from ddp_numpy.data.mapped import Features, chosen

if TYPE_CHECKING:
    import pandas as pd

Array = npt.NDArray[Any]
LABEL_NAMES = ("label", "target", "class")
"""Of a column that holds the labels unless another one is asked for, in large or small letters; the first wins."""
LEAST_COUNTED = 10
"""Rows of a table of which a column that counts them is not taken for chance."""
ANOTHER_COLUMN = ", or choose another column with --label-column"
"""What else may help if labels can't be learnt."""
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
    categorical: tuple[str, ...] = ("auto",)
    """Columns of categories; "auto": each column of text that has few different values; "none": no column."""
    missing: str = "error"
    """What a missing value is: an "error"; filled with the "mean" of its column; or all of its row is "drop"ped."""
    labelled: bool = dataclasses.field(default=True, repr=False)
    """Whether rows have labels. Not part of what names rows in the cache: without labels, none are there."""

    def __post_init__(self) -> None:
        """Raise InputError for a task, an encoding or a way with missing values that there is not."""
        for name, value, known in (
            ("task", self.task, (None, "classify", "regress")),
            ("missing", self.missing, ("error", "mean", "drop")),
        ):
            if value not in known:
                words = [repr(word) for word in known if word]
                raise InputError(f"{name} {value!r}: must be {', '.join(words[:-1])} or {words[-1]}")
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

    def check_names(self, columns: list[str], path: Path) -> None:
        """Raise InputError if a column is called by its name that is none of these."""
        for option, asked in (("--drop", self.drop), ("--categorical", self.named_categorical)):
            if unknown := [name for name in asked if name not in columns]:
                raise InputError(f"{path}: {option} {unknown[0]}: its columns are {in_short(tuple(columns))}")

    @property
    def named_categorical(self) -> tuple[str, ...]:
        """The columns that are called categories by name."""
        return tuple(name for name in self.categorical if name not in ("auto", "none"))


DEFAULTS = TableOptions()


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of numbers, each with a class or with a number to predict."""

    features: Features
    """(n, d), uint8, float32 or float64."""
    labels: Array
    """(n,), int64, numbers of classes; or float64, numbers to predict."""
    class_names: tuple[Name, ...] = ()
    """() if the classes are called 0, 1, 2 …"""
    columns: tuple[str, ...] = ()
    """The features' names; () if they have none."""
    label: str = ""
    """The name of the labels; "" if they have none."""
    notes: tuple[str, ...] = ()
    """What people should know of how the columns were taken."""
    categories: tuple[tuple[str, ...], ...] = ()
    """Of each column, the categories that the numbers 0, 1, 2 … in it stand for; () of numbers that are just that, and
    () in all if no column has categories."""

    @property
    def words(self) -> list[Any]:
        """All but the arrays, as JSON can hold it; `of` takes it back."""
        return [self.class_names, self.columns, self.label, self.notes, self.categories]

    @classmethod
    def of(cls, features: Features, labels: Array, words: list[Any]) -> "Table":
        """The table of these arrays and words. Raises TypeError or ValueError if they can't be words."""
        class_names, columns, label, notes, categories = words
        return cls(
            features, labels, tuple(class_names), tuple(columns), label, tuple(notes), tuple(map(tuple, categories))
        )

    @property
    def predicts_numbers(self) -> bool:
        """Whether the labels are numbers to predict, and not classes."""
        return self.labels.dtype.kind == "f"

    def rows(self, rows: Array) -> "Table":
        """Of these row numbers."""
        return dataclasses.replace(self, features=chosen(self.features, rows), labels=self.labels[rows])

    def check(self) -> None:
        """Raise ValueError unless the arrays can be those of a table."""
        features, labels, names = self.features, self.labels, self.class_names
        is_array = len(features.shape) == 2 and math.prod(features.shape) > 0
        if not is_array or features.dtype not in (np.uint8, np.float32, np.float64):
            raise ValueError(f"features are {features.dtype} {features.shape}")
        for what in (self.columns, self.categories):
            if len(what) not in (0, features.shape[1]):
                raise ValueError(f"{len(what)} descriptions of {features.shape[1]} columns")
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
    import pandas as pd

    names = frame.columns = list(map(str, frame.columns))
    options.check_names(names, path)
    notes, left_out = [], list(options.drop)
    for name in names:
        what = _of_no_use(frame[name]) if name.startswith(UNNAMED) and name not in options.drop else None
        if what is not None:
            notes.append(f"a column without a name {what}: left out")
            left_out.append(name)
    if left_out:  # each time, the whole table is copied
        frame = frame.drop(columns=left_out)
    names = list(frame.columns)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: more than one column is called {twice!r}; keep one of them")
    if len(names) < 2:
        raise InputError(f"{path}: has {len(names)} column left; a label and at least one feature are needed")
    to_plain_numbers(frame)
    frame.index = pd.RangeIndex(1, len(frame) + 1)  # the rows' numbers, which they keep if others are dropped
    rows = None
    if options.missing == "drop" and (missing := frame.isna().any(axis=1).to_numpy()).any():
        if missing.all():
            raise InputError(f"{path}: each row has a missing value; --drop leaves a column out")
        frame = frame[~missing]
        rows = frame.index.to_numpy()
        notes.append(note_of_dropped(int(missing.sum()), len(missing)))
    label = options.named_label(names, path) or guessed_label(frame.iloc[:, 0], names, path, options.task)
    if frame.attrs.get("header", []).count(label[0]) > 1:
        raise InputError(f"{path}: more than one column is called {label[0]!r}; keep one of them")
    features, labels = frame.drop(columns=label[0]), labels_of(frame[label[0]], path)
    values, categories = make_numbers(features, path, options)
    return table_of(values, list(features.columns), labels, label, notes, path, options, categories, rows)


def table_of(
    values: Array,
    columns: list[str],
    labels: Array,
    label: tuple[str, str],
    notes: list[str],
    path: Path,
    options: TableOptions,
    categories: tuple[tuple[str, ...], ...] = (),
    rows: Array | None = None,
) -> Table:
    """The table of these features (n, d), without columns that count the rows, and labels (n,) as find_labels takes.

    label: the column of labels, and why it is that one; categories: see Table; rows (n,): their numbers, by default
    from 1. What a row's number says of its label is an accident of their order, and nothing of a new row. Raises
    InputError for a number that is not finite, labels that can't be learnt, or if no feature is left.
    """
    named = f"label column {label[0]!r}"
    targets, class_names = find_labels(labels, named, path, options.task, ANOTHER_COLUMN, rows)
    enough = len(values) >= LEAST_COUNTED
    counting = [
        number
        for number in range(len(columns))
        if enough and not (categories and categories[number]) and counts_rows(values[:, number], rows)
    ]
    if counting:
        kept = [number for number in range(len(columns)) if number not in counting]
        if not kept:
            raise InputError(f"{path}: its only feature, {columns[0]!r}, counts the rows; others are needed")
        notes = [*notes, *(note_of_counting(columns[number]) for number in counting)]
        values, columns = values[:, kept], [columns[number] for number in kept]
        categories = tuple(categories[number] for number in kept) if categories else ()
    features = exact_features(values, path, columns, rows, may_miss=options.missing == "mean")
    all_notes = in_words(label, notes)
    return Table(features, targets, class_names, tuple(columns), label[0], all_notes, categories)


def in_words(label: tuple[str, str], notes: Sequence[str]) -> tuple[str, ...]:
    """All that people should know of how a table's columns were taken. label: its column, and why it is that one."""
    return tuple(map(one_line, [f"label is column {label[0]!r}, {label[1]}", *notes]))


def note_of_dropped(dropped: int, rows: int) -> str:
    """What people should know of rows that are left out."""
    return f"rows with a missing value, {dropped:,} of {rows:,}: left out"


def note_of_counting(name: str) -> str:
    """What people should know of a column that is left out."""
    return f"column {name!r} counts the rows: left out"


def _of_no_use(column: "pd.Series") -> str | None:
    """Why a column without a name is left out; None if it is not."""
    if column.dtype.kind == "i" and counts_rows(column.to_numpy()):
        return "counts the rows"
    return "is empty" if column.isna().all() else None


def counts_rows(values: Array, rows: Array | None = None) -> bool:
    """Whether they count from 0 or 1. Nearly all columns are seen by their ends not to. rows: see `table_of`."""
    first, last = (float(values[at]) - numbered(at, rows) for at in (0, len(values) - 1))
    if first not in (-1, 0) or first != last:
        return False
    return bool((np.diff(values) == (1 if rows is None else np.diff(rows))).all())


def guessed_label(values: "pd.Series", columns: Sequence[str], path: Path, task: str | None) -> tuple[str, str]:
    """The first of the columns, and so in words. Raises InputError if it does not look as the task's label would.

    values (n,): those of the first column.
    """
    first = columns[0]
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
        f"the first, {first!r}, {what}; its columns are {in_short(tuple(columns))}: choose with --label-column"
    )


def labels_of(column: "pd.Series", path: Path) -> Array:
    """The labels (n,) as numbers, booleans or texts. Raises InputError if one is missing."""
    missing = column.isna().to_numpy()
    if missing.any():
        row = column.index[int(np.argmax(missing))]
        raise InputError(
            f"{path}: row {row}, column {column.name!r}: the label is missing; drop the row, or all such rows with "
            "--missing drop"
        )
    return column.to_numpy() if column.dtype.kind in "iufb" else column.astype(str).to_numpy(object)
