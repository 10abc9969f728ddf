"""From a name or a path to the rows for training and the rows for validation."""

import contextlib
import ctypes
import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.memory import memory_bytes, memory_for_file, reading
from ddp_numpy.data.arrays import NAMED, check_pair, frame_or_pair, from_memory
from ddp_numpy.data.cache import CacheEntry
from ddp_numpy.data.classes import find_classes
from ddp_numpy.data.csv_parts import read_csv_together
from ddp_numpy.data.dataset import Dataset
from ddp_numpy.data.files import read_frame, read_table, refuse_stdin, table_files, unknown_kind
from ddp_numpy.data.idx import TRAIN, VALIDATION, read_idx_split
from ddp_numpy.data.large import read_large
from ddp_numpy.data.mnist import image_folder
from ddp_numpy.data.npz import read_npz, read_pair
from ddp_numpy.data.prepare import follow, labelled, other_rows, prepare, with_doubts
from ddp_numpy.data.shared import share_features
from ddp_numpy.data.split import stratified_split
from ddp_numpy.data.table import Table, TableOptions
from ddp_numpy.data.table_pieces import NotInPieces, may_be_in_pieces
from ddp_numpy.data.text import is_packed, is_text

if TYPE_CHECKING:
    import pandas as pd

    from ddp_numpy.comm import Communicator

Source: TypeAlias = "str | os.PathLike[str] | pd.DataFrame | tuple[npt.ArrayLike, npt.ArrayLike]"
"""The name or the path of labelled rows, or these themselves."""
_MAPPED_SHARE = 32
"""A table whose files have more bytes than this part of the memory is mapped: as numbers, they have up to ten times as
many while they are read."""
_LEAST_NEEDED = 4  # times the bytes of a text, as numbers of 8 bytes: each has a digit and a delimiter
_TRIES = 3  # how often a file is read that changes while it is read


def load_data(
    source: Source,
    comm: "Communicator",
    *,
    label_column: str | None = None,
    drop: Sequence[str] = (),
    header: bool = True,
    encoding: str = "utf-8",
    task: str | None = None,
    categorical: Sequence[str] = ("auto",),
    missing: str = "error",
    valid: "Source | None" = None,
    valid_fraction: float = 0.2,
    seed: int = 1,
    scale: str = "auto",
    map_above: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> tuple[Dataset, Dataset]:
    """The training and the validation rows of a source, on every rank. Collective.

    Rank 0 reads them; a large table of text is parsed by all ranks that have it.

    source: "digits" (bundled), "mnist" (downloaded once); the path of a table, which is a file of text (.csv, .tsv or
    .txt, packed or not), .parquet or .feather, a folder of such files, or a pattern that they fit; of a .npz file, or
    of a folder with MNIST's four IDX files; or rows in memory, of which those of rank 0 count: a DataFrame, or a pair
    X (n, …), y (n,). label_column, drop, header, encoding, task, categorical, missing: of tables, see TableOptions.
    MNIST and its like have rows to validate of their own. From other sources, valid_fraction of the rows is held out,
    by class and by seed, unless valid is one more source, with the rows to validate: see load_more. scale: how features
    are scaled, see fit_scale. map_above: a table whose files have more GB than this, by default a part of the memory,
    stays in a file of the cache, which all ranks of a host map; tell: is told, at rank 0, how far its reading is, which
    may take minutes. Raises InputError, on every rank, for data that can't be read or trained on.
    """
    loaded: list[Dataset | None] = [None, None]
    with comm.together():
        options = TableOptions(label_column, tuple(drop), header, encoding, task, tuple(categorical), missing)
    # If memory fails a rank inside a collective, the ranks can't agree on an error any more. That rank ends them all.
    with memory_for_file(_path(source)):
        table, validating = _read_together(source, options, map_above, comm, tell)
        with comm.together():
            if table is not None:
                with reading(_path(source)):
                    loaded = [*_split(source, table, validating, options, valid, valid_fraction, seed, scale)]
        table = validating = None  # so that their memory is freed before the datasets are shared
        # pop takes rank 0's own arrays out of the list, so that they are freed once the shared ones are there.
        train, valid_data = (_share(loaded.pop(0), comm) for _ in range(2))
    _return_freed_memory()
    return train, valid_data


def load_table(
    source: Source,
    comm: "Communicator",
    options: TableOptions,
    map_above: float | None = None,
    tell: Callable[[str], None] = lambda line: None,
) -> Table:
    """All rows of a source, not split yet, on every rank: without those that it has to validate. Collective.

    The ranks of a node share one copy. map_above, tell: see load_data. Raises InputError, on every rank, for data
    that can't be read or trained on.
    """
    with memory_for_file(_path(source)):
        table, _ = _read_together(source, options, map_above, comm, tell)
        features = share_features(None if table is None else table.features, comm)
        labels = comm.share(None if table is None else table.labels)
        return Table.of(features, labels, comm.broadcast([] if table is None else table.words))


def _read_together(
    source: Source,
    options: TableOptions,
    map_above: float | None,
    comm: "Communicator",
    tell: Callable[[str], None],
) -> tuple[Table | None, Table | None]:
    """The rows of a source at rank 0, and those to validate if it tells them apart. Collective."""
    table = validating = None
    with comm.together():
        if isinstance(source, str | os.PathLike):
            table = _read_table_together(_path(source), options, map_above, comm, tell)
        if table is None and comm.rank == 0:
            with reading(_path(source)):
                table, validating = _read(source, options)
    return table, validating


def _path(source: Source) -> Path:
    """What messages call a source. A path may be a Path; the names of sources are texts."""
    return Path(source) if isinstance(source, str | os.PathLike) else NAMED


def load_more(
    source: Source,
    train: Dataset,
    comm: "Communicator",
    *,
    header: bool = True,
    encoding: str = "utf-8",
    missing: str = "error",
) -> Dataset:
    """More labelled rows, on every rank: of another source, in the columns, classes and scales of those to train on.

    Collective. source: a table of text, a .npz file, or rows in memory, of which those of rank 0 count. header,
    encoding, missing: see TableOptions. Raises InputError, on every rank, for data that can't be read or used so.
    """
    loaded = None
    with memory_for_file(_path(source)):
        with comm.together():
            if comm.rank == 0:
                loaded = _read_more(source, train, TableOptions(header=header, encoding=encoding, missing=missing))
        return _share(loaded, comm)


def _read_more(source: Source, train: Dataset, options: TableOptions) -> Dataset:
    path = _path(source)
    if isinstance(source, str | os.PathLike):
        with reading(path):
            found = _frame_or_pair_of(path, options)
    else:
        found = frame_or_pair(source, train.label)
    if not isinstance(found, tuple):
        return follow(found, train, path, options.missing)
    X, y = found
    check_pair(X, y, path)
    return labelled(X.reshape(len(X), -1), y, train, path)


def _frame_or_pair_of(path: Path, options: TableOptions) -> Any:
    """The columns of a table's files, or the arrays X and y of a .npz file."""
    refuse_stdin(path)
    if table_files(path):
        return read_frame(path, options)
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.name.endswith(".npz"):
        return read_pair(path)
    raise InputError(f"{path}: is no table; give a .csv, .tsv, .txt, .parquet, .feather or .npz file")


def _share(data: Dataset | None, comm: "Communicator") -> Dataset:
    """Rank 0's dataset on every rank. The ranks of a node share one copy of its arrays."""
    features = share_features(None if data is None else data.features, comm)
    labels = comm.share(None if data is None else data.labels)
    nothing = np.zeros(0, np.uint8)
    rest = comm.broadcast(None if data is None else dataclasses.replace(data, features=nothing, labels=nothing))
    assert rest is not None, "rank 0 has a dataset, or has raised an error before"
    return dataclasses.replace(rest, features=features, labels=labels)


def _return_freed_memory() -> None:
    """Give freed memory back to the system. glibc would keep what reading needed: as much again as the data."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _read_table_together(
    source: Path,
    options: TableOptions,
    map_above: float | None,
    comm: "Communicator",
    tell: Callable[[str], None],
) -> Table | None:
    """The rows of a table's files, at rank 0: from the cache, else parsed by all ranks. Collective.

    None if it is another kind of source, or if rank 0 has to read it alone, for example to say what is wrong with it.
    """
    entry = table = None
    files: list[Path] = []
    is_large = fits = False
    if comm.rank == 0:
        with contextlib.suppress(OSError, ValueError, InputError):
            if files := table_files(source):
                entry = CacheEntry(source, files, repr(options))
                limit = memory_bytes() / _MAPPED_SHARE if map_above is None else map_above * 1e9
                size = sum(path.stat().st_size for path in files)
                is_large = size > limit and all(map(may_be_in_pieces, files))
                fits = _LEAST_NEEDED * size < memory_bytes()
                table = entry.load(mapped=is_large)
    files = comm.broadcast(files)
    if comm.broadcast(is_large and table is None):
        try:
            return read_large(source, files, options, comm, entry, tell)
        except NotInPieces as error:
            if not comm.broadcast(fits):
                raise InputError(
                    f"{error}, and as a whole it is larger than memory; mend that, or write it as Parquet"
                ) from None
            table = None if entry is None else entry.load()
    together = table is None and all(is_text(path) and not is_packed(path) for path in files)
    if comm.broadcast(entry is not None and together):
        table = read_csv_together(source, files, options, comm)
        if entry and table and not entry.store(table):
            return None
    return table


def _read_table_alone(source: Path, files: list[Path], options: TableOptions) -> Table:
    """The rows of a table that is not in the cache. They go there.

    If a file is replaced while it is read, it is read again: the user has just made the new rows for this job.
    """
    for _ in range(_TRIES):
        entry = CacheEntry(source, files, repr(options))
        table = read_table(source, options, files)
        if entry.store(table):
            return table
    raise InputError(f"{source}: changed each of the {_TRIES} times that it was read; start when it is complete")


def _split(
    source: Source,
    table: Table,
    validating: Table | None,
    options: TableOptions,
    valid: "Source | None",
    valid_fraction: float,
    seed: int,
    scale: str,
) -> tuple[Dataset, Dataset]:
    if valid is not None:
        if validating is not None:
            raise InputError(f"{_path(source)}: has rows to validate of its own; leave --valid out")
        train = prepare(table, scale, options.missing)
        return with_doubts(train, _read_more(valid, train, options))
    if validating is None:
        classes = np.zeros(len(table.labels), np.int64) if table.predicts_numbers else table.labels
        rows, held_out = stratified_split(classes, valid_fraction, seed)
        if not len(held_out):
            raise InputError(f"{_path(source)}: has one row of each label: more are needed, to train and to validate")
        table, validating = table.rows(rows), table.rows(held_out)
    train = prepare(table, scale, options.missing)
    return with_doubts(train, other_rows(validating, train))


def _read(source: Source, options: TableOptions) -> tuple[Table, Table | None]:
    """The rows of a source, and those to validate if it tells them apart."""
    if not isinstance(source, str | os.PathLike):
        return from_memory(source, options), None
    path = Path(source)
    refuse_stdin(path)
    if source not in ("digits", "mnist") and (files := table_files(path)):
        return _read_table_alone(path, files, options), None
    if (folder := image_folder(source)) is not None:
        return _read_idx_folder(folder)
    if path.exists() and path.name.endswith(".npz"):
        return read_npz(path, options.task), None
    raise unknown_kind(path)


def _read_idx_folder(folder: Path) -> tuple[Table, Table]:
    (X, y), (valid_X, valid_y) = read_idx_split(folder, TRAIN), read_idx_split(folder, VALIDATION)
    labels, class_names = find_classes(y, folder / TRAIN)
    if X.shape[1] != valid_X.shape[1]:
        raise InputError(f"{folder}: training images have {X.shape[1]} pixels, validation images {valid_X.shape[1]}")
    names = np.array(class_names or range(labels.max() + 1))
    unknown = ~np.isin(valid_y, names)
    if unknown.any():
        raise InputError(f"{folder}: validation label {valid_y[unknown][0]} is in no training row")
    return Table(X, labels, class_names), Table(valid_X, np.searchsorted(names, valid_y).astype(np.int64), class_names)
