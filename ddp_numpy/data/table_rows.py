"""What rows of a piece of a table say, and how all pieces' rows are to lie in one file of features."""

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.classes import Array, Name, find_labels
from ddp_numpy.data.dataset import compact_features, needs_double
from ddp_numpy.data.features import make_numbers, most_categories, to_plain_numbers
from ddp_numpy.data.files import in_order
from ddp_numpy.data.mapped import MappedRows
from ddp_numpy.data.table import (
    ANOTHER_COLUMN,
    LEAST_COUNTED,
    UNNAMED,
    Table,
    TableOptions,
    counts_rows,
    guessed_label,
    in_words,
    labels_of,
    note_of_counting,
    note_of_dropped,
)

if TYPE_CHECKING:
    import pandas as pd


@dataclasses.dataclass(frozen=True)
class Form:
    """How the rows of a table lie in its file of features."""

    dtype: str
    counting: frozenset[str]
    """Columns that count the rows, and so are left out."""
    categories: dict[str, tuple[str, ...]]
    """Of the columns of categories, these, sorted: the file has their places."""


@dataclasses.dataclass(frozen=True, eq=False)
class Rows:
    """What some neighbouring rows say: n that are kept, with d columns beside the label."""

    numbers: Array
    """(n,) of the rows, from 1."""
    dropped: int
    labels: Array
    """(n,) as they stand in the file; or the places in `texts` of what stands there."""
    texts: tuple[str, ...]
    least: Array
    """(d,), and so are the next three: of the numbers, or of places in this object's own categories."""
    most: Array
    are_bytes: Array
    """Whether all are whole numbers from 0 to 255."""
    counted_from: Array
    """0 or 1 if the column counts the rows from there; -1 if it does not."""
    categories: tuple[tuple[str, ...], ...]
    """Of each column; () of numbers."""


_FACTS = "least", "most", "are_bytes"


class Judge:
    """Says what the rows of one table mean, piece by piece."""

    def __init__(self, source: Path, first: Path, names: list[str], options: TableOptions) -> None:
        """source: what messages call the table; first: the first of its files; names: those of all columns.

        Raises InputError for names that are asked for and not there.
        """
        options.check_names(names, source)
        self._source, self._first, self._names, self._options = source, first, names, options
        left = [name for name in names if name not in options.drop]
        self._label = options.named_label(left, source)
        named = [name for name in left if not name.startswith(UNNAMED)] or left
        self.label = self._label[0] if self._label else named[0]
        self.columns = [name for name in left if name != self.label]
        if not self.columns:
            raise InputError(f"{source}: has {len(left)} column left; a label and at least one feature are needed")

    def judge(self, frame: "pd.DataFrame", path: Path, first: int, form: Form | None) -> tuple[Array, Rows]:
        """The numbers (n, d) of the rows of a piece, and what these say. first: the number of the first, from 0.

        form: the one to write them in, if it is known. Raises InputError for values that can't be used.
        """
        import pandas as pd

        options = self._options
        frame = in_order(frame.rename(columns=str), self._names, path, self._first)
        if options.drop:
            frame = frame.drop(columns=list(options.drop))
        to_plain_numbers(frame)
        frame.index = pd.RangeIndex(first + 1, first + len(frame) + 1)
        given = len(frame)
        if options.missing == "drop":
            frame = frame.dropna()
        labels, texts = labels_of(frame[self.label], path).copy(), ()  # a view would keep all of the piece in memory
        if labels.dtype == object:
            found, labels = np.unique(labels, return_inverse=True)
            texts = tuple(found.tolist())
        if form is not None:
            options = dataclasses.replace(options, categorical=(*options.categorical, *form.categories))
        values, categories = make_numbers(frame.drop(columns=self.label), path, options, is_whole=False)
        numbers = frame.index.to_numpy()
        least, most = _edges(values)
        facts = least, most, _are_bytes(values, least, most), _counted_from(values, numbers)
        return values, Rows(numbers, given - len(frame), labels, texts, *facts, categories or ((),) * len(self.columns))

    def form(self, seen: Sequence[Rows]) -> Form:
        """The form in which all these rows can lie. Raises InputError if they leave nothing to learn from."""
        rows = sum(len(part.numbers) for part in seen)
        if not rows:
            raise InputError(f"{self._source}: each row has a missing value; --drop leaves a column out")
        parts = [part for part in seen if len(part.numbers)]
        least, most, are_bytes = (np.array([getattr(part, name) for part in parts]) for name in _FACTS)
        least, most, are_bytes = np.fmin.reduce(least), np.fmax.reduce(most), np.all(are_bytes, axis=0)
        starts = np.array([part.counted_from for part in parts])
        counts = (starts[0] >= 0) & (starts == starts[0]).all(axis=0) & (rows >= LEAST_COUNTED)
        categories = {}
        for number, name in enumerate(self.columns):
            if texts := sorted({text for part in parts for text in part.categories[number]}):
                self._refuse_texts(name, texts, rows)
                categories[name] = tuple(texts)
                least[number], most[number], counts[number] = 0, len(texts) - 1, False
                are_bytes[number] &= most[number] <= 255
            elif np.isnan(least[number]):
                raise InputError(
                    f"{self._source}: column {name!r} is empty; leave it out with --drop {shlex.quote(name)}"
                )
        if counts.all():
            first = self.columns[0]
            raise InputError(f"{self._source}: its only feature, {first!r}, counts the rows; others are needed")
        kept = ~counts
        dtype = "float64" if needs_double(least[kept], most[kept]) else "float32"
        counting = frozenset(name for name, is_out in zip(self.columns, counts, strict=True) if is_out)
        return Form("uint8" if are_bytes[kept].all() else dtype, counting, categories)

    def arranged(self, values: Array, rows: Rows, form: Form, path: Path) -> Array | None:
        """The numbers (n, k) as they lie in the file; None if they don't fit its form, so that it will be another.

        values (n, d), rows: as `judge` returns them. Raises InputError for a number that float32 can't hold.
        """
        if form.categories:
            values = values.copy()  # pandas' own may be read-only
        for number, name in enumerate(self.columns):
            if name in form.categories:
                places = {text: place for place, text in enumerate(form.categories[name])}
                codes = np.array([places.get(text, -1) for text in rows.categories[number]])
                present = ~np.isnan(values[:, number])
                values[present, number] = codes[values[present, number].astype(np.intp)]
        kept = [number for number, name in enumerate(self.columns) if name not in form.counting]
        if len(kept) < len(self.columns):
            values = values[:, kept]
        if form.dtype == "float64" or not len(values):
            return np.ascontiguousarray(values, form.dtype)
        names = [self.columns[number] for number in kept]
        compact = compact_features(values, path, names, rows.numbers, may_miss=self._options.missing == "mean")
        fits = np.can_cast(compact.dtype, form.dtype)
        return compact.astype(form.dtype, copy=False) if fits else None

    def table(self, seen: Sequence[Rows], form: Form, file: Path) -> Table:
        """The table of all rows, whose features lie in this file. Raises InputError for labels that can't be learnt."""
        import pandas as pd

        source, options = self._source, self._options
        labels, texts = _joined_labels(seen)
        if (label := self._label) is None:
            values = pd.Series(pd.Categorical.from_codes(labels, pd.Index(texts)) if texts else labels)
            label = guessed_label(values, [self.label, *self.columns], source, options.task)
        numbers = np.concatenate([part.numbers for part in seen])
        class_names: tuple[Name, ...] = texts
        if len(texts) < 2 or options.task == "regress":
            shown = np.array(texts, object)[labels] if texts else labels
            what = f"label column {label[0]!r}"
            labels, class_names = find_labels(shown, what, source, options.task, ANOTHER_COLUMN, numbers)
        counting = [name for name in self.columns if name in form.counting]
        dropped = sum(part.dropped for part in seen)
        notes = ["a column without a name counts the rows: left out" for name in counting if name.startswith(UNNAMED)]
        notes += [note_of_dropped(dropped, dropped + len(numbers))] if dropped else []
        notes += [note_of_counting(name) for name in counting if not name.startswith(UNNAMED)]
        columns = tuple(name for name in self.columns if name not in form.counting)
        categories = tuple(form.categories.get(name, ()) for name in columns) if form.categories else ()
        features = MappedRows(file, numbers - 1)
        return Table(features, labels, class_names, columns, label[0], in_words(label, notes), categories)

    def _refuse_texts(self, name: str, texts: list[str], rows: int) -> None:
        """Raise InputError if a column of text has too many different ones to be categories."""
        if name not in self._options.named_categorical and len(texts) > most_categories(rows):
            raise InputError(
                f"{self._source}: column {name!r}: {texts[0]!r} is text, of which there are {len(texts):,} different "
                f"ones in {rows:,} rows; leave the column out with --drop {shlex.quote(name)}"
            )


def _edges(values: Array) -> tuple[Array, Array]:
    """The least and the largest number of each column (d,), of those that are not missing; NaN if all are."""
    least, most = (np.full(values.shape[1], edge) for edge in (np.inf, -np.inf))
    if len(values):
        least, most = values.min(axis=0).astype(np.float64), values.max(axis=0).astype(np.float64)
        if np.isnan(least).any():
            least, most = np.fmin.reduce(values), np.fmax.reduce(values)
    return least, most


def _are_bytes(values: Array, least: Array, most: Array) -> Array:
    """Whether a column (d,) holds only whole numbers from 0 to 255, and none is missing."""
    are_bytes: Array = (least >= 0) & (most <= 255)
    if values.dtype.kind == "f":
        (numbers,) = np.nonzero(are_bytes)
        some = values[:, numbers]
        are_bytes[numbers] = (some == np.rint(some)).all(axis=0)  # false of NaN
    return are_bytes


def _counted_from(values: Array, numbers: Array) -> Array:
    """0 or 1 if a column (d,) counts the rows from there, -1 if not. numbers (n,): the rows', from 1."""
    starts = np.full(values.shape[1], -1)
    if len(values):
        first, last = (values[at] - numbers[at] for at in (0, -1))
        for number in np.flatnonzero((first == last) & ((first == -1) | (first == 0))):
            if counts_rows(values[:, number], numbers):
                starts[number] = first[number] + 1
    return starts


def _joined_labels(seen: Sequence[Rows]) -> tuple[Array, tuple[str, ...]]:
    """All labels (n,), and (); or their places in these texts, sorted. Of numbers among texts, as these say them."""
    if not any(part.texts for part in seen):
        return np.concatenate([part.labels for part in seen]), ()
    said = []
    for part in seen:
        labels, texts = part.labels, part.texts
        if not texts:
            found, labels = np.unique(labels, return_inverse=True)
            texts = tuple(map(str, found.tolist()))
        said.append((labels, texts))
    names = tuple(sorted({text for _, texts in said for text in texts}))
    places = {name: place for place, name in enumerate(names)}
    joined = [np.array([places[text] for text in texts], np.int64)[labels] for labels, texts in said if len(labels)]
    return np.concatenate(joined), names
