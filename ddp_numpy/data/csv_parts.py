"""A large CSV file read by several ranks, each of which parses a part of its lines."""

import contextlib
import io
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.csv import check_shape, choose_label_column
from ddp_numpy.data.dataset import Array, check_labels, compact_features

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

_PART_BYTES = 2**20  # what a rank is to have of a file for its help to be worth while
_HEADER_BYTES = 2**24  # the longest header line that is taken for one
_EXACT = 2**53  # whole numbers up to here are the same in float64


def read_csv_together(path: Path, label_column: str | None, comm: "Communicator") -> tuple[Array, Array] | None:
    """At rank 0 what `read_csv` gives, parsed by all ranks that have the same file, by size and time. Collective.

    None at the other ranks, and where the file is small or is for `read_csv` to judge as a whole. Raises InputError
    at rank 0 for labels that can't be trained on.
    """
    seen = comm.broadcast(comm.gather(_seen(path))) or []
    size = seen[0][0] if seen[0] else 0
    helpers = [rank for rank, theirs in enumerate(seen) if theirs == seen[0]][: size // _PART_BYTES]
    if len(helpers) < 2:
        return None
    mine = None
    if comm.rank in helpers:
        mine = _read_part(path, label_column, helpers.index(comm.rank), len(helpers))
    gathered = comm.gather(mine) or []
    parts = [gathered[rank] for rank in helpers if gathered]
    if not parts or None in parts:
        return None
    features, labels = (np.concatenate([part[k] for part in parts if part]) for k in range(2))
    return features, check_labels(labels, path)


def _seen(path: Path) -> tuple[int, int] | None:
    """What tells a file from another of that name on another host; None where there is none."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return None


def _read_part(path: Path, label_column: str | None, part: int, parts: int) -> tuple[Array, Array] | None:
    """The features and the labels, unchecked, of one of several parts, cut at line ends.

    None where a part can't stand for itself: where it has anything but plain numbers in it, or where the label
    column doesn't follow from the header alone.
    """
    import pandas as pd

    try:
        text = _header_and_lines(path, part, parts)
        if b'"' in text:  # a quoted line end would be cut like any other
            return None
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(io.BytesIO(text), index_col=False, low_memory=False)
        check_shape(table, path)
        if label_column is None and "label" not in table.columns:
            return None
        label = choose_label_column(table, path, label_column)
        features, labels = table.drop(columns=label).to_numpy(), table[label].to_numpy()
        for values in (features, labels):
            # Another part may hold fractions, so that the whole would be float64.
            if values.dtype.kind not in "iuf" or not -_EXACT <= values.min() <= values.max() <= _EXACT:
                return None
        return compact_features(features, path), labels
    except (OSError, ValueError, InputError, pd.errors.ParserWarning):  # pandas' own errors are ValueErrors
        return None


def _header_and_lines(path: Path, part: int, parts: int) -> bytes:
    """The header line, and behind it the lines that begin in this part of the bytes below it."""
    with open(path, "rb") as file:
        header = file.readline(_HEADER_BYTES)
        first = file.tell()
        rows = file.seek(0, os.SEEK_END) - first
        start, stop = (_line_start(file, first + rows * edge // parts) for edge in (part, part + 1))
        file.seek(start)
        return header + file.read(stop - start)


def _line_start(file: BinaryIO, position: int) -> int:
    """Where the first line begins that does so at a position or behind it."""
    file.seek(position - 1)
    file.readline()
    return file.tell()
