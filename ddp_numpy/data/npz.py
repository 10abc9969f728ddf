"""Labelled rows from .npz files with arrays X and y."""

from pathlib import Path

from ddp_numpy.base.archive import Damaged, read_arrays
from ddp_numpy.base.errors import InputError
from ddp_numpy.data.arrays import from_arrays
from ddp_numpy.data.classes import Array
from ddp_numpy.data.table import Table


def read_npz(path: Path, task: str | None = None) -> Table:
    """The labelled rows of a .npz with X (n, …) of numbers and y (n,) of numbers, booleans or texts.

    task: see TableOptions. Never unpickles. Raises InputError for any other contents, and OSError as open() does.
    """
    return from_arrays(*read_pair(path), path, task)


def read_features(path: Path) -> Array:
    """The array X (n, …) of numbers of a .npz. Raises as `read_pair` does."""
    try:
        (X,) = read_arrays(path, names=("X",)).values()
    except Damaged as error:
        raise InputError(f"{path}: {error}") from None
    return X


def read_pair(path: Path) -> tuple[Array, Array]:
    """The arrays X and y of a .npz. Raises InputError if it has others or is damaged, and OSError as open() does."""
    try:
        X, y = read_arrays(path, names=("X", "y")).values()
    except Damaged as error:
        raise InputError(f"{path}: {error}") from None
    return X, y
