"""Rows of a source some at a time, for a network that is trained: so a file may be larger than memory.

The ranks take turns. Where one part ends and the next begins does not depend on how many ranks there are.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.memory import reading
from ddp_numpy.base.rows import RowNumbers
from ddp_numpy.data.arrays import check_pair
from ddp_numpy.data.cache import states_of
from ddp_numpy.data.classes import Array
from ddp_numpy.data.csv import stream_text
from ddp_numpy.data.csv_parts import ranks_with
from ddp_numpy.data.files import read_frame, refuse_stdin, table_files, unknown_kind
from ddp_numpy.data.idx import VALIDATION, read_idx_split
from ddp_numpy.data.mnist import image_folder
from ddp_numpy.data.npz import read_features, read_pair
from ddp_numpy.data.table import TableOptions
from ddp_numpy.data.table_pieces import NotInPieces, Pieces, may_be_in_pieces
from ddp_numpy.data.text import is_text

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

T = TypeVar("T")
_NUMBERS = 2**21  # of a part that is no piece of a file


@dataclasses.dataclass(frozen=True)
class Part:
    """Some rows of a source, one after another."""

    rows: Any
    """A DataFrame (m, k), or an array (m, …) of features."""
    path: Path
    """What messages call the source, or the file of it that the rows are of."""
    numbers: RowNumbers
    """Those of the rows, for messages."""
    labels: Array | None = None
    """(m,), as they stand in the data, if the rows are an array and have some."""
    names: Sequence[str] | None = None
    """What the rows are called, if they have names."""


def in_turn(
    comm: "Communicator", turns: Iterator[Iterable[Part]], work: Callable[[Part], T]
) -> Iterator[tuple[int, T]]:
    """How many rows each part has, and what `work` makes of it: of all ranks' at rank 0, and nothing elsewhere.

    turns: the parts that this rank takes before the next rank's turn. Collective: every rank iterates to the end. An
    InputError in `turns` or in `work` is raised on every rank.
    """
    while True:
        with comm.together():
            turn = next(turns, None)
            made = None if turn is None else [(len(part.rows), work(part)) for part in turn]
        gathered = comm.gather(made) or []
        if not comm.broadcast(any(one is not None for one in gathered)):
            return
        for one in gathered:
            yield from one or ()


class Stream:
    """The rows of a table, or of arrays in files. The ranks that have the files take turns."""

    def __init__(self, source: str, options: TableOptions, comm: "Communicator", texts: Sequence[str] = ()) -> None:
        """Collective. source: as load_data takes it; of a folder with MNIST's four files, the rows to validate.

        options: header and encoding count, and whether arrays have labels; texts: columns whose values are kept as they
        stand. Raises InputError, on every rank, if there is no such source.
        """
        self._path, self._options, self._comm, self._texts = Path(source), options, comm, texts
        files: list[Path] = []
        X = y = None
        with comm.together(), reading(self._path):
            if comm.rank == 0:
                refuse_stdin(self._path)
                files = [] if source in ("digits", "mnist") else table_files(self._path)
                if not files:
                    X, y = _arrays(source, options.labelled)
        self._files = comm.broadcast(files)
        helpers = list(range(comm.size))
        if self._files:
            helpers, _ = ranks_with(states_of(self._files), comm)
            with comm.together():
                if not helpers:
                    raise InputError(f"{self._path}: changes while it is read; start when it is complete")
        else:
            self._X = comm.share(X)
            self._y = comm.share(y) if comm.broadcast(y is not None) else None
        self._turn, self._turns = helpers.index(comm.rank) if comm.rank in helpers else None, len(helpers)

    def map(self, work: Callable[[Part], T]) -> Iterator[T]:
        """What `work` makes of each part, at rank 0, in the order of the rows; nothing at other ranks.

        Collective: every rank iterates to the end. Raises InputError, on every rank, for what can't be read.
        """
        done = 0
        if self._files and all(map(may_be_in_pieces, self._files)):
            try:
                for rows, made in in_turn(self._comm, self._pieces(), work):
                    yield made
                    done += rows
                return
            except NotInPieces:  # a file has quotes, perhaps behind some pieces that have none
                done = self._comm.broadcast(done)
        whole = ([part] for part in self._whole(done))
        yield from (made for _, made in in_turn(self._comm, whole, work))

    def _pieces(self) -> Iterator[Iterator[Part]]:
        """This rank's pieces of the files, each read where it lies."""
        if self._turn is None:
            return
        with reading(self._path):
            pieces = Pieces(self._files, self._options)
        for place in range(self._turn, len(pieces.all), self._turns):
            yield self._parts_of(pieces, place)

    def _parts_of(self, pieces: Pieces, place: int) -> Iterator[Part]:
        """Those of one piece."""
        start, path = 0, pieces.all[place].path
        for frame in _read(path, pieces.frames(pieces.all[place], self._texts)):

            def before(start: int = start) -> int:
                return start + sum(map(pieces.count, pieces.all[:place]))

            yield Part(frame, path, RowNumbers(before))
            start += len(frame)

    def _whole(self, done: int) -> Iterator[Part]:
        """This rank's parts of what has to be read from its first row on, behind so many rows that are done already."""
        start = 0
        for number, (rows, labels, path) in enumerate(self._from_the_first()):
            if self._turn is not None and number % self._turns == self._turn and (left := start + len(rows) - done) > 0:
                first = max(0, len(rows) - left)
                rest = rows.iloc[first:] if hasattr(rows, "iloc") else rows[first:]
                yield Part(rest, path, RowNumbers(start + first), None if labels is None else labels[first:])
            start += len(rows)

    def _from_the_first(self) -> Iterator[tuple[Any, Array | None, Path]]:
        """All rows, some at a time, with labels if they are an array that has some, and the path of their file."""
        for path in self._files:
            if is_text(path):
                for frame in _read(path, stream_text(path, self._options, _NUMBERS, self._texts)):
                    yield frame, None, path
            else:
                with reading(path):
                    frame = read_frame(path, self._options)
                for rows in _some(len(frame), frame.shape[1]):
                    yield frame.iloc[rows], None, path
        if not self._files:
            for rows in _some(len(self._X), self._X[:1].size):
                yield self._X[rows], None if self._y is None else self._y[rows], self._path


def _read(path: Path, frames: Iterator[T]) -> Iterator[T]:
    """The same frames; errors of reading them name the file."""
    while True:
        with reading(path):
            frame = next(frames, None)
        if frame is None:
            return
        yield frame


def _some(n: int, width: int) -> Iterator[slice]:
    """All of so many rows, some at a time."""
    step = max(1, _NUMBERS // max(1, width))
    return (slice(first, first + step) for first in range(0, n, step))


def _arrays(source: str, labelled: bool) -> tuple[Array, Array | None]:
    """Features (n, …), and labels (n,) if they are asked for or the source has them anyway."""
    path = Path(source)
    if (folder := image_folder(source)) is not None:
        return read_idx_split(folder, VALIDATION)
    if not path.exists() or not path.name.endswith(".npz"):
        raise unknown_kind(path)
    X, y = read_pair(path) if labelled else (read_features(path), None)
    check_pair(X, np.zeros(X.shape[:1]) if y is None else y, path)
    return X, y
