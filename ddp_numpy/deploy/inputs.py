"""From files as people have them to what a trained network takes: raw rows, with labels where these are asked for."""

import glob
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.memory import reading
from ddp_numpy.base.rows import RowNumbers
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Part, Stream, TableOptions, in_turn, is_table, known_labels
from ddp_numpy.deploy.handwriting import SIDE, SUFFIXES, read_picture
from ddp_numpy.nn import Array, Sequential

T = TypeVar("T")
_PICTURES = 64  # in a part


class PictureStream:
    """Pictures of digits, each as a row. The ranks take turns; all must see the files."""

    def __init__(self, source: Path, files: list[Path], comm: Communicator) -> None:
        """source: the folder that they are called after, or all that there is."""
        folder = source if source.is_dir() else source.parent
        self._names = [str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path) for path in files]
        self._path, self._files, self._comm = source, files, comm

    def map(self, work: Callable[[Part], T]) -> Iterator[T]:
        """As that of a Stream."""
        yield from (made for _, made in in_turn(self._comm, self._turns(), work))

    def _turns(self) -> Iterator[Iterator[Part]]:
        step = _PICTURES * self._comm.size
        for first in range(_PICTURES * self._comm.rank, len(self._files), step):
            yield self._parts(slice(first, first + _PICTURES))

    def _parts(self, chosen: slice) -> Iterator[Part]:
        rows = []
        for path in self._files[chosen]:
            with reading(path):
                rows.append(read_picture(path))
        yield Part(np.array(rows), self._path, RowNumbers(chosen.start), names=self._names[chosen])


class Inputs:
    """What a model is to be shown of each part of a source, and what it is to say of it."""

    def __init__(self, model: Sequential, options: TableOptions) -> None:
        """options: header, encoding, missing and label_column count; and labelled: whether labels are used."""
        self._model, self._options = model, options
        self._columns = [column.name for column in model.columns]

    def open(self, source: str, comm: Communicator) -> Stream | PictureStream:
        """The source's parts, to be taken through `rows`. Collective. Raises InputError if there is no such source."""
        files: list[Path] = []
        with comm.together(), reading(Path(source)):
            if comm.rank == 0:
                files = picture_files(Path(source))
                if files and self._options.labelled:
                    raise InputError(f"{source}: pictures have no labels; give a table, or MNIST's files")
        files = comm.broadcast(files)
        if files:
            with comm.together():
                if (inputs := int(np.prod(self._model.input_shape or ()))) != SIDE**2:
                    raise InputError(
                        f"{source}: a picture becomes {SIDE} x {SIDE} pixels, as MNIST's are, and the model takes "
                        f"{inputs} numbers; give a table"
                    )
            return PictureStream(Path(source), files, comm)
        return Stream(source, self._options, comm, self._texts())

    def rows(self, part: Part) -> Part:
        """The same part, with the columns that the model takes, and labels as the model numbers them, if it has some.

        Rows with a missing value that the model can't fill are left out if these are to be dropped. Raises InputError
        for a label that the model does not know, and if a column is not there.
        """
        X, labels, numbers = part.rows, part.labels, part.numbers
        if hasattr(X, "columns"):
            X, labels = self._of_table(X.rename(columns=str), part.path)
            if self._options.missing == "drop":
                needed = [c.name for c in self._model.columns if c.fill is None] if self._columns else list(X.columns)
                kept = X[needed].notna().all(axis=1).to_numpy()
                if labels is not None:
                    kept = kept & labels.notna().to_numpy()
                X, numbers = X[kept], numbers.some(np.flatnonzero(kept))
                labels = None if labels is None else labels[kept]
            if labels is not None:
                labels = labels.to_numpy()
        elif X.shape[1:] not in (self._model.input_shape, (len(self._columns),)):
            X = X.reshape(len(X), *self._shape(X[:1].size, part.path))
        if labels is not None and self._options.labelled:
            labels = known_labels(labels, self._model.classes or None, self._model.label or "label", part.path, numbers)
        return Part(X, part.path, numbers, labels, part.names)

    def logits(self, part: Part) -> Array:
        """Those of rows (m, classes). Raises InputError for values that the model can't take."""
        try:
            return self._model.logits(part.rows, part.numbers)
        except InputError as error:
            raise InputError(f"{part.path}: {error}") from None

    def _shape(self, width: int, path: Path) -> tuple[int, ...]:
        shape = self._model.input_shape or ()
        if width != (inputs := int(np.prod(shape))):
            raise InputError(f"{path}: its rows have {width:,} features, and the model takes {inputs:,}")
        return shape

    def _of_table(self, table: Any, path: Path) -> tuple[Any, Any]:
        """The columns of features, and the column of labels; None if there is none, and none is asked for."""
        if not self._options.header and len(table.columns) == len(self._columns):
            table = table.set_axis(self._columns, axis=1)  # without labels, columns have other numbers than with them
        label = self._label(list(table.columns), path)
        if not self._columns:  # the model was trained on an array
            X = table.drop(columns=[] if label is None else [label])
            self._shape(X.shape[1], path)
            return X, None if label is None else table[label]
        if missing := [name for name in self._columns if name not in table.columns]:
            raise InputError(f"{path}: has no column {missing[0]!r}, which the model was trained on")
        return table[self._columns], None if label is None else table[label]

    def _label(self, names: list[str], path: Path) -> str | None:
        """The column of labels among these."""
        wanted = self._options.label_column or self._model.label
        others = [name for name in names if name not in self._columns]
        if wanted in others:
            return wanted
        found = None if self._options.label_column else self._options.named_label(others, path)
        if found is None and self._options.labelled:
            raise InputError(f"{path}: has no column {wanted or 'label'!r} with labels; choose one with --label-column")
        return None if found is None else found[0]

    def _texts(self) -> list[str]:
        """The columns whose categories would become others if a part of a file were taken for numbers.

        Training saw whole columns: where "03" and "A1" were two of its texts, a part may have none but numbers.
        """
        return [c.name for c in self._model.columns if c.categories and not all(map(_is_read_alike, c.categories))]


def picture_files(source: Path) -> list[Path]:
    """The pictures that a source is, sorted by name: a file, a folder of them, or a pattern; [] if it is none."""
    if source.is_dir():
        files = sorted(path for path in source.iterdir() if path.name[0] not in "._")
        return [] if any(map(is_table, files)) else [path for path in files if _is_picture(path)]
    if glob.has_magic(str(source)) and not source.exists():
        files = sorted(map(Path, glob.glob(str(source))))
        return files if all(map(_is_picture, files)) else []
    return [source] if _is_picture(source) and source.exists() else []


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _is_read_alike(category: str) -> bool:
    """Whether it is the same when it is read as a number or a truth value, and written again."""
    if category in ("True", "False"):
        return True
    try:
        number = float(category)
    except ValueError:
        return False
    return category == (str(int(number)) if number.is_integer() else str(number))
