"""From a name or a path to the rows for training and the rows for validation."""

import contextlib
import ctypes
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.memory import memory_for_file
from ddp_numpy.data.arrays import NAMED, from_memory
from ddp_numpy.data.cache import CacheEntry
from ddp_numpy.data.classes import find_classes
from ddp_numpy.data.csv import read_csv
from ddp_numpy.data.csv_parts import read_csv_together
from ddp_numpy.data.dataset import Dataset
from ddp_numpy.data.idx import TRAIN, VALIDATION, read_idx_split
from ddp_numpy.data.mnist import bundled_digits, download_mnist
from ddp_numpy.data.npz import read_npz
from ddp_numpy.data.prepare import prepare
from ddp_numpy.data.split import stratified_split
from ddp_numpy.data.table import Table, TableOptions
from ddp_numpy.data.text import is_packed, is_text

if TYPE_CHECKING:
    import pandas as pd

    from ddp_numpy.comm import Communicator

_TRIES = 3  # how often a file is read that changes while it is read


def load_data(
    source: "str | os.PathLike[str] | pd.DataFrame | tuple[npt.ArrayLike, npt.ArrayLike]",
    comm: "Communicator",
    *,
    label_column: str | None = None,
    drop: Sequence[str] = (),
    header: bool = True,
    encoding: str = "utf-8",
    task: str | None = None,
    categorical: Sequence[str] = ("auto",),
    missing: str = "error",
    valid_fraction: float = 0.2,
    seed: int = 1,
    scale: str = "auto",
) -> tuple[Dataset, Dataset]:
    """The training and the validation rows of a source, on every rank. Collective.

    Rank 0 reads them; a large table of text is parsed by all ranks that have it.

    source: "digits" (bundled), "mnist" (downloaded once); the path of a table of text (.csv, .tsv or .txt, packed or
    not), of a .npz file, or of a folder with MNIST's four IDX files; or rows in memory, of which those of rank 0 count:
    a DataFrame, or a pair X (n, …), y (n,). label_column, drop, header, encoding, task,
    categorical, missing: of tables, see TableOptions. Folders have a validation split of their own. From other sources,
    valid_fraction of the rows is held out, by class and by seed. scale: how features are scaled, see fit_scale. Raises
    InputError, on every rank, for data that can't be read or trained on.
    """
    loaded: list[Dataset | None] = [None, None]
    parsed = None
    with comm.together():
        options = TableOptions(label_column, tuple(drop), header, encoding, task, tuple(categorical), missing)
    # A path may be a Path; the names of sources are texts.
    name = os.fspath(source) if isinstance(source, str | os.PathLike) else str(NAMED)
    # If memory fails a rank inside a collective, the ranks can't agree on an error any more. That rank ends them all.
    with memory_for_file(Path(name)):
        with comm.together():
            if isinstance(source, str | os.PathLike):
                parsed = _read_csv_together(Path(name), options, comm)
            elif comm.rank == 0:
                parsed = from_memory(source, options)
            if comm.rank == 0:
                loaded = [*_load(name, options, valid_fraction, seed, scale, parsed)]
        # pop takes rank 0's own arrays out of the list, so that they are freed once the shared ones are there.
        train, valid = (_share(loaded.pop(0), comm) for _ in range(2))
    _return_freed_memory()
    return train, valid


def _share(data: Dataset | None, comm: "Communicator") -> Dataset:
    """Rank 0's dataset on every rank. The ranks of a node share one copy of its arrays."""
    features, labels = (comm.share(x) for x in ((data.features, data.labels) if data else (None, None)))
    nothing = np.zeros(0, np.uint8)
    rest = comm.broadcast(None if data is None else dataclasses.replace(data, features=nothing, labels=nothing))
    assert rest is not None, "rank 0 has a dataset, or has raised an error before"
    return dataclasses.replace(rest, features=features, labels=labels)


def _return_freed_memory() -> None:
    """Give freed memory back to the system. glibc would keep what reading needed: as much again as the data."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _read_csv_together(path: Path, options: TableOptions, comm: "Communicator") -> Table | None:
    """The rows of a table of text, at rank 0: from the cache, else parsed by all ranks. Collective.

    None if it is another kind of file, or if rank 0 has to read it alone, for example to say what is wrong with it.
    """
    entry = table = None
    if comm.rank == 0 and is_text(path):
        with contextlib.suppress(OSError, ValueError):
            entry = _cache_entry(path, options)
            table = entry.load()
    if comm.broadcast(comm.size > 1 and entry is not None and table is None and not is_packed(path)):
        table = read_csv_together(path, options, comm)
        if entry and table and not entry.store(table):
            return None
    return table


def _read_csv_alone(path: Path, options: TableOptions) -> Table:
    """The rows of a table of text that is not in the cache. They go there.

    If the file is replaced while it is read, it is read again: the user has just made the new rows for this job.
    """
    for _ in range(_TRIES):
        entry = _cache_entry(path, options)
        table = read_csv(path, options)
        if entry.store(table):
            return table
    raise InputError(f"{path}: changed each of the {_TRIES} times that it was read; start when it is complete")


def _load(
    source: str,
    options: TableOptions,
    valid_fraction: float,
    seed: int,
    scale: str,
    parsed: Table | None,
) -> tuple[Dataset, Dataset]:
    try:
        with memory_for_file(Path(source)):
            train, valid = _read(source, options, valid_fraction, seed, parsed)
            return prepare(train, valid, scale, options.missing)
    except OSError as error:
        raise InputError(f"{error.filename or source}: {error.strerror or error}") from error


def _read(
    source: str, options: TableOptions, valid_fraction: float, seed: int, parsed: Table | None
) -> tuple[Table, Table]:
    path, table = Path(source), parsed
    if table is None:
        if source == "digits":
            return _read_idx_folder(bundled_digits())
        if source == "mnist":
            return _read_idx_folder(download_mnist())
        if not path.exists():
            raise InputError(f"{path}: no such file or folder; --data takes a path, 'digits' or 'mnist'")
        if path.is_dir():
            return _read_idx_folder(path)
        if is_text(path):
            table = _read_csv_alone(path, options)
        elif path.name.endswith(".npz"):
            table = read_npz(path, options.task)
        else:
            raise InputError(f"{path}: unknown kind of file; give a .csv, .tsv, .txt or .npz, or a folder of IDX files")
    classes = np.zeros(len(table.labels), np.int64) if table.predicts_numbers else table.labels
    train, valid = stratified_split(classes, valid_fraction, seed)
    if not len(valid):
        raise InputError(f"{path}: has one row of each label: more are needed, some to train and some to validate")
    return table.rows(train), table.rows(valid)


def _cache_entry(path: Path, options: TableOptions) -> CacheEntry:
    return CacheEntry(path, repr(options))


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
