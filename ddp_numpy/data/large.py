"""Reads tables that are too large for memory: piece by piece, into a file of features that all ranks of a node map.

How rows lie in that file depends on all of them: whether each number fits into a byte, which columns count the rows,
and which categories there are. A sample of pieces tells it nearly always. So it is taken from there, and looked at
again in all pieces while they are written. If the sample was wrong, they are written once more.
"""

import contextlib
import functools
import math
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, named_errors
from ddp_numpy.data.cache import OWNER, CacheEntry, room_named, states_of
from ddp_numpy.data.classes import Array
from ddp_numpy.data.table import Table, TableOptions
from ddp_numpy.data.table_pieces import NotInPieces, Piece, Pieces
from ddp_numpy.data.table_rows import Form, Judge, Rows

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

T = TypeVar("T")
_SAMPLE = 8  # pieces
_TOLD_SECONDS = 10.0
_TRIES = 5  # of writing: as the sample says, and once for each thing in which it may be wrong


def read_large(
    source: Path,
    files: Sequence[Path],
    options: TableOptions,
    comm: "Communicator",
    entry: CacheEntry | None,
    tell: Callable[[str], None],
) -> Table | None:
    """The table of these files at rank 0, with its features mapped; None at other ranks. Collective.

    source: what messages call the files together; entry: their place in the cache, at rank 0. All ranks of its host
    read. tell: is told, at rank 0, how far that is. Raises InputError, on every rank: NotInPieces if the table has to
    be read as a whole, another for what can't be used.
    """
    found = comm.broadcast(comm.gather((socket.gethostname(), states_of(files)))) or []
    helpers = [rank for rank, theirs in enumerate(found) if theirs == found[0]]
    with comm.together(), named_errors(source):
        pieces = Pieces(files if comm.rank in helpers else [], options)
        own_names = pieces.names() if comm.rank == 0 else []
    names = comm.broadcast(own_names)
    with comm.together():
        reading = _Reading(pieces, Judge(source, files[0], names, options))
    mine = pieces.all[helpers.index(comm.rank) :: len(helpers)] if comm.rank in helpers else []
    reading.count(comm.broadcast(_of_all(comm, pieces, pieces.count, mine)))
    sample = {pieces.all[at] for at in np.linspace(0, len(pieces.all) - 1, _SAMPLE).astype(int) if mine}
    seen = _of_all(comm, pieces, reading.look, [piece for piece in mine if piece in sample])
    form = _form(comm, reading, seen)
    with contextlib.ExitStack() as stack:
        path, file = Path(), None
        with comm.together():
            if entry is not None:
                with room_named(pieces.nbytes):
                    path = entry.new_features()
                    file = stack.enter_context(atomic_write(path, OWNER))
                    ranks = f"{len(helpers)} rank{'s' * (len(helpers) > 1)}"
                    tell(f"{source}: {pieces.nbytes / 1e9:.3g} GB, read by {ranks} into a file of {path.parent}")
        reading.to = comm.broadcast(Path(file.name if file else ""))
        for _ in range(_TRIES):
            reading.offset = comm.on_root(functools.partial(reading.begin, file, form))
            seen = _of_all(comm, pieces, functools.partial(reading.look, form=form), _telling(source, mine, tell))
            form, written = _form(comm, reading, seen), form
            if form == written:
                break
        else:
            raise NotInPieces(f"{source}: its pieces don't agree on what the columns hold")
        with comm.together():
            if entry is not None:
                with room_named(pieces.nbytes):
                    stack.close()
                try:
                    table = reading.judge.table(_joined(seen), form, path)
                    if not entry.store(table):
                        raise InputError(f"{source}: was changed while it was read; start when it is complete")
                except InputError:
                    path.unlink()
                    raise
                return table
    return None


def _telling(source: Path, mine: Sequence[Piece], tell: Callable[[str], None]) -> Iterator[Piece]:
    """The same pieces. `tell` is told now and then how many of them are done."""
    start = last = time.perf_counter()
    for done, piece in enumerate(mine):
        now = time.perf_counter()
        if done and now - last > _TOLD_SECONDS:
            tell(
                f"{source}: {done / len(mine):.0%} is read; {(now - start) / done * (len(mine) - done):.0f} s are left"
            )
            last = now
        yield piece


def _joined(seen: dict[Piece, list[Rows]]) -> list[Rows]:
    return [rows for piece in seen.values() for rows in piece]


def _form(comm: "Communicator", reading: "_Reading", seen: dict[Piece, list[Rows]]) -> Form:
    """The form in which rows that rank 0 has seen can lie, on every rank. Collective."""
    return comm.on_root(lambda: reading.judge.form(_joined(seen)))


class _Reading:
    """The pieces of a table, on their way into the file of features."""

    to: Path
    """The file."""
    offset: int
    """Where its first row begins, in bytes."""

    def __init__(self, pieces: Pieces, judge: Judge) -> None:
        self.judge, self._pieces = judge, pieces

    def count(self, counts: dict[Piece, int]) -> None:
        """Take note of how many rows each piece has."""
        ends = np.cumsum(list(counts.values())).tolist()
        self._counts, self._rows = counts, ends[-1]
        self._first = dict(zip(counts, [0, *ends[:-1]], strict=True))

    def begin(self, file: BinaryIO | None, form: Form) -> int:
        """Make the file as long as it will be, and return where the first row begins."""
        assert file is not None, "rank 0 has opened it"
        shape, dtype = self._shape(form), np.dtype(form.dtype)
        file.seek(0)
        file.truncate()
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        file.flush()
        offset = file.tell()
        with room_named(size := self._bytes(form)):
            file.truncate(offset + size)
        return offset

    def _shape(self, form: Form) -> tuple[int, int]:
        """Of all features."""
        return self._rows, len(self.judge.columns) - len(form.counting)

    def _bytes(self, form: Form) -> int:
        """Of all features."""
        return math.prod(self._shape(form)) * np.dtype(form.dtype).itemsize

    def look(self, piece: Piece, form: Form | None = None) -> list[Rows]:
        """What the rows of a piece say. They are written to the file in this form, if they fit it."""
        seen, first = [], self._first[piece]
        texts = form.categories if form else ()
        for frame in self._pieces.frames(piece, tuple(texts)):
            given, path = len(frame), piece.path
            values, rows = self.judge.judge(frame, path, first, form)
            if form is not None:
                features = self.judge.arranged(values, rows, form, path)
                if features is not None:
                    with room_named(self._bytes(form)):
                        self._write(features, rows.numbers - 1, slice(first, first + given))
            seen.append(rows)
            first += given
        if first - self._first[piece] != self._counts[piece]:
            raise NotInPieces(f"{piece.path}: its rows can't be counted by their lines, so it can't be read in pieces")
        return seen

    def _write(self, features: Array, places: Array, among: slice) -> None:
        """Write features (n, k) to their places (n,) among these. The others stay 0."""
        if len(features) < among.stop - among.start:
            spread = np.zeros((among.stop - among.start, features.shape[1]), features.dtype)
            spread[places - among.start] = features
            features = spread
        data = features.data.cast("B")
        at = self.offset + features[:1].nbytes * among.start
        with open(self.to, "r+b", buffering=0) as file:
            file.seek(at)
            while data:
                data = data[file.write(data) :]


def _of_all(comm: "Communicator", pieces: Pieces, work: Callable[[Piece], T], mine: Iterable[Piece]) -> dict[Piece, T]:
    """At rank 0, what `work` returns for the pieces of all ranks, in order; nothing at others. Collective.

    Raises InputError, on every rank, as `work` does: for the first of the pieces that it fails for.
    """
    done: dict[Piece, T] = {}
    failed: tuple[Piece, InputError] | None = None
    for piece in mine:
        try:
            with named_errors(piece.path):
                done[piece] = work(piece)
        except InputError as error:
            failed = piece, error
            break
    gathered = comm.gather((done, failed)) or []
    with comm.together():
        failures = dict(failed for _, failed in gathered if failed)
        for piece in pieces.all:
            if piece in failures:
                raise failures[piece]
    found = {piece: result for done, _ in gathered for piece, result in done.items()}
    return {piece: found[piece] for piece in pieces.all if piece in found} if found else {}
