"""From a name or a path to the rows for training and the rows for validation."""

import contextlib
import ctypes
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.memory import memory_for_file
from ddp_numpy.data.cache import CacheEntry
from ddp_numpy.data.csv import read_csv
from ddp_numpy.data.csv_parts import read_csv_together
from ddp_numpy.data.dataset import Array, Dataset, check_labels
from ddp_numpy.data.idx import TRAIN, VALIDATION, read_idx_split
from ddp_numpy.data.mnist import bundled_digits, download_mnist
from ddp_numpy.data.npz import read_npz
from ddp_numpy.data.split import stratified_split

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

Table = tuple[Array, Array]
"""Features (n, d) and labels (n,)."""

_TRIES = 3  # how often a file is read that changes while it is read


def load_data(
    source: str,
    comm: "Communicator",
    *,
    label_column: str | None = None,
    valid_fraction: float = 0.2,
    seed: int = 1,
    divisor: float | None = None,
) -> tuple[Dataset, Dataset]:
    """The training and the validation rows of a source, on every rank. Collective.

    Rank 0 reads them; a large CSV file is parsed by all ranks that have it.

    source: "digits" (bundled), "mnist" (downloaded once), or the path of a .csv, .csv.gz or .npz file or of a
    folder with MNIST's four IDX files. Folders have a validation split of their own. From other sources,
    valid_fraction of the rows is held out, by label and by seed. Features are divided by divisor; by default by 255
    if all are whole numbers 0..255, else by 1. Raises InputError, on every rank, for data that can't be read or
    trained on.
    """
    loaded: list[Dataset | None] = [None, None]
    # If memory fails a rank inside a collective, the ranks can't agree on an error any more. That rank ends them all.
    with memory_for_file(Path(source)):
        with comm.together():
            parsed = _read_csv_together(Path(source), label_column, comm)
            if comm.rank == 0:
                loaded = [*_load(source, label_column, valid_fraction, seed, divisor, parsed)]
        # pop takes rank 0's own arrays out of the list, so that they are freed once the shared ones are there.
        train, valid = (_share(loaded.pop(0), comm) for _ in range(2))
    _return_freed_memory()
    return train, valid


def _share(data: Dataset | None, comm: "Communicator") -> Dataset:
    """Rank 0's dataset on every rank. The ranks of a node share one copy of its arrays."""
    classes, divisor = comm.broadcast((data.classes, data.divisor) if data else (0, 1.0))
    features, labels = (comm.share(x) for x in ((data.features, data.labels) if data else (None, None)))
    return Dataset(features, labels, classes, divisor)


def _return_freed_memory() -> None:
    """Give freed memory back to the system. glibc would keep what reading needed: as much again as the data."""
    with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def _read_csv_together(path: Path, label_column: str | None, comm: "Communicator") -> Table | None:
    """The rows of a CSV file, at rank 0: from the cache, else parsed by all ranks. Collective.

    None if it is another kind of file, or if rank 0 has to read it alone, for example to say what is wrong with it.
    """
    entry = table = None
    if comm.rank == 0 and _is_csv(path):
        with contextlib.suppress(OSError, ValueError):
            entry = _cache_entry(path, label_column)
            table = entry.load()
    if comm.broadcast(comm.size > 1 and entry is not None and table is None and path.suffix == ".csv"):
        table = read_csv_together(path, label_column, comm)
        if entry and table and not entry.store(*table):
            return None
    return table


def _read_csv_alone(path: Path, label_column: str | None) -> Table:
    """The rows of a CSV file that is not in the cache. They go there.

    If the file is replaced while it is read, it is read again: the user has just made the new rows for this job.
    """
    for _ in range(_TRIES):
        entry = _cache_entry(path, label_column)
        table = read_csv(path, label_column)
        if entry.store(*table):
            return table
    raise InputError(f"{path}: changed each of the {_TRIES} times that it was read; start when it is complete")


def _load(
    source: str,
    label_column: str | None,
    valid_fraction: float,
    seed: int,
    divisor: float | None,
    parsed: Table | None,
) -> tuple[Dataset, Dataset]:
    try:
        with memory_for_file(Path(source)):
            train, valid = _read(source, label_column, valid_fraction, seed, parsed)
    except OSError as error:
        raise InputError(f"{error.filename or source}: {error.strerror or error}") from error
    if divisor is None:
        divisor = 255.0 if train[0].dtype == valid[0].dtype == np.uint8 else 1.0
    classes = int(max(train[1].max(), valid[1].max())) + 1
    return Dataset(*train, classes, divisor), Dataset(*valid, classes, divisor)


def _read(
    source: str, label_column: str | None, valid_fraction: float, seed: int, parsed: Table | None
) -> tuple[Table, Table]:
    path = Path(source)
    if source == "digits":
        return _read_idx_folder(bundled_digits())
    if source == "mnist":
        return _read_idx_folder(download_mnist())
    if not path.exists():
        raise InputError(f"{path}: no such file or folder; --data takes a path, 'digits' or 'mnist'")
    if path.is_dir():
        return _read_idx_folder(path)
    if _is_csv(path):
        X, y = parsed or _read_csv_alone(path, label_column)
    elif path.name.endswith(".npz"):
        X, y = read_npz(path)
    else:
        raise InputError(f"{path}: unknown kind of file; give a .csv, .csv.gz or .npz, or a folder of IDX files")
    train, valid = stratified_split(y, valid_fraction, seed)
    if not len(valid):
        raise InputError(f"{path}: has one row of each label: more are needed, some to train and some to validate")
    return (X[train], y[train]), (X[valid], y[valid])


def _is_csv(path: Path) -> bool:
    return path.name.endswith((".csv", ".csv.gz"))


def _cache_entry(path: Path, label_column: str | None) -> CacheEntry:
    return CacheEntry(path, f"label={label_column!r}")


def _read_idx_folder(folder: Path) -> tuple[Table, Table]:
    (X, y), (valid_X, valid_y) = read_idx_split(folder, TRAIN), read_idx_split(folder, VALIDATION)
    y = check_labels(y, folder / TRAIN)
    if X.shape[1] != valid_X.shape[1]:
        raise InputError(f"{folder}: training images have {X.shape[1]} pixels, validation images {valid_X.shape[1]}")
    if valid_y.max() > y.max():
        raise InputError(f"{folder}: validation label {valid_y.max()} is in no training row")
    return (X, y), (valid_X, valid_y.astype(np.int64))
