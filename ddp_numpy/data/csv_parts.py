"""Reads large files of text with several ranks: each of them parses a part of the lines, or some of the files."""

import dataclasses
import io
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.data.cache import FileState, states_of
from ddp_numpy.data.classes import Array
from ddp_numpy.data.csv import check_names, check_shape, may_be_twice, parse
from ddp_numpy.data.dataset import compact_features, needs_double
from ddp_numpy.data.small_numbers import small_numbers
from ddp_numpy.data.table import UNNAMED, Table, TableOptions, table_of
from ddp_numpy.data.text import SPACES, Form, find_form

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

_PART_BYTES = 2**20  # each rank that helps gets at least this much: less is not worth its help
_HEADER_BYTES = 2**24  # the longest line that is accepted as a header line
FIRST_LINES = re.compile(rb"([^\n]*)\s*([^\n]*)")  # the header and the first row, if blank lines are skipped
_EXACT = 2**53  # float64 holds every whole number up to here exactly


def read_csv_together(source: Path, files: Sequence[Path], options: TableOptions, comm: "Communicator") -> Table | None:
    """Parse files of text with all ranks that have the same files, by their sizes and times. Collective.

    source: what messages call the files together. Returns at rank 0 what `read_table` makes of them, or None if they
    are small, if one was changed or replaced in the meantime, or if they have to be judged as a whole. Returns None at
    the other ranks. Raises InputError at rank 0 for labels that can't be trained on.
    """
    states = states_of(files)
    helpers, size = ranks_with(states, comm)
    helpers = helpers[: size // _PART_BYTES]
    if not helpers:
        return None
    mine = None
    if comm.rank in helpers:
        mine = _read_share(files, options, helpers.index(comm.rank), len(helpers))
        if states_of(files) != states:  # this share may be of another file than the others
            mine = None
    gathered = comm.gather(mine) or []
    shares = [share for rank in helpers if gathered and (share := gathered[rank]) is not None]
    if len(shares) < len(helpers):
        return None
    return _joined([part for share in shares for part in share], source, options)


def ranks_with(states: "Sequence[FileState | None]", comm: "Communicator") -> tuple[list[int], int]:
    """The ranks that have the same files as rank 0, by their sizes and times, and the bytes of all. Collective.

    states: of the files, as this rank sees them. No rank, and 0, if rank 0 does not see all.
    """
    found = comm.broadcast(comm.gather([state and state[:2] for state in states])) or []
    sizes = [state[0] for state in found[0] if state]
    if len(sizes) < len(found[0]):
        return [], 0
    return [rank for rank, theirs in enumerate(found) if theirs == found[0]], sum(sizes)


def _read_share(files: Sequence[Path], options: TableOptions, helper: int, helpers: int) -> "list[_Part] | None":
    """What one of several helpers reads: a part of the only file, or some of the files. None as of `_read_part`."""
    if len(files) == 1:
        pieces = [(files[0], helper, helpers)]
    else:
        first, stop = (len(files) * edge // helpers for edge in (helper, helper + 1))
        pieces = [(path, 0, 1) for path in files[first:stop]]
    parts = []
    for path, part, count in pieces:
        # If a rank is alone, and has to judge the file as a whole, parsing a part of it first would be in vain.
        if (read := _read_part(path, options, part, count, only_quickly=helpers == 1)) is None:
            return None
        parts.append(read)
    return parts


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """What a rank read."""

    features: Array
    """(n, d), uint8 or float32."""
    labels: Array
    """(n,), as they stand in the file."""
    least: Array
    """(d,), of the features before they were rounded."""
    most: Array
    columns: list[str]
    """The features' names."""
    label: tuple[str, str]
    """The label's column, and why it is that one."""


def _joined(parts: Sequence[_Part], path: Path, options: TableOptions) -> Table | None:
    """The table that the parts are of; None if it has to be judged as a whole. Raises InputError as `table_of` does."""
    if any((part.columns, part.label) != (parts[0].columns, parts[0].label) for part in parts):
        return None
    features, labels = parts[0].features, parts[0].labels
    if len(parts) > 1:
        features, labels = (np.concatenate([getattr(part, name) for part in parts]) for name in ("features", "labels"))
    least, most = (np.array([getattr(part, name) for part in parts]) for name in ("least", "most"))
    if needs_double(least.min(axis=0), most.max(axis=0)):
        return None
    return table_of(features, parts[0].columns, labels, parts[0].label, [], path, options)


def _read_part(path: Path, options: TableOptions, part: int, parts: int, only_quickly: bool = False) -> _Part | None:
    """The features, and the labels before any check, of one of several parts. Parts are cut at line ends.

    None if the part can't be judged without the others: it holds something other than plain numbers, or the header
    alone does not decide which column has the labels. only_quickly: None, too, unless all are small whole numbers.
    """
    try:
        form = find_form(path, options.encoding)
        if form.delimiter == SPACES or options.encoding != TableOptions.encoding or not options.header:
            return None
        if options.named_categorical:
            return None
        header, lines = header_and_lines(path, part, parts)
        small = small_numbers(header, lines, form.delimiter.encode())
        if small is None:
            return None if only_quickly else _parsed_part(path, header + lines, options, form)
        names, values = small
        check_names(names, path, options)
        label = _label(names, path, options)
        if label is None:
            return None
        columns = [name for name in names if name not in (*options.drop, label[0])]
        features = np.take(values, [names.index(name) for name in columns], axis=1)
        labels = values[:, names.index(label[0])].copy()
        return _Part(features, labels, features.min(axis=0), features.max(axis=0), columns, label)
    except (OSError, ValueError, MemoryError, InputError):
        return None


def _label(names: list[str], path: Path, options: TableOptions) -> tuple[str, str] | None:
    """The label's column, and why it is that one, if these names alone decide that."""
    if may_be_twice(names) or any(name.startswith(UNNAMED) for name in names) or not {*options.drop} <= {*names}:
        return None
    return options.named_label([name for name in names if name not in options.drop], path)


def _parsed_part(path: Path, text: bytes, options: TableOptions, form: Form) -> _Part | None:
    """A part of any numbers: its header line and its lines. None, and raises InputError, as `_read_part` may."""
    import pandas as pd

    if b'"' in text or b"\0" in text:  # a line end inside quotes would be cut like any other
        return None
    if text.count(b"\r") != text.count(b"\r\n"):  # pandas ends a line at \r alone, and the parts are cut at \n
        return None
    lines, mark = FIRST_LINES.match(text), form.delimiter.encode()
    if lines and lines[1].count(mark) < lines[2].count(mark):
        # pandas lets the first row be one empty field longer than the header, but no other row. Here the first row
        # of the part may be any row of the file.
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = parse(io.BytesIO(text), options, form)
    except (pd.errors.ParserWarning, KeyError):
        return None
    check_shape(table, path, options)
    label = _label(list(map(str, table.columns)), path, options)
    if label is None:
        return None
    labels = table[label[0]].to_numpy()
    table = table.drop(columns=[*options.drop, label[0]])
    features = table.to_numpy()
    for values in (features, labels):
        # If another part holds fractions, the whole file would be float64: larger whole numbers would change.
        if values.dtype.kind not in "iuf" or not -_EXACT <= values.min() <= values.max() <= _EXACT:
            return None
    compact = compact_features(features, path)
    exact = compact if compact.dtype == np.uint8 else features
    return _Part(compact, labels, exact.min(axis=0), exact.max(axis=0), list(map(str, table.columns)), label)


def header_and_lines(path: Path, part: int, parts: int, has_header: bool = True) -> tuple[bytes, bytes]:
    """The header line, if there is one, and the lines that begin in this part of the bytes below it."""
    with open_regular(path) as file:
        header = file.readline(_HEADER_BYTES) if has_header else b""
        first = file.tell()
        rows = file.seek(0, os.SEEK_END) - first
        start, stop = (_line_start(file, first + rows * edge // parts) for edge in (part, part + 1))
        file.seek(start)
        return header, file.read(stop - start)


def _line_start(file: BinaryIO, position: int) -> int:
    """Where the first line begins that begins at `position` or later.

    In b"ab\\ncd\\n", lines begin at 0 and 3: for positions 1, 2 and 3 this is 3; for 4 it is 6, the end.
    """
    if position == 0:
        file.seek(0)
        return 0
    file.seek(position - 1)
    file.readline()
    return file.tell()
