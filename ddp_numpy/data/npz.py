"""Labelled rows from .npz files with arrays X and y."""

import zipfile
from pathlib import Path

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.dataset import Array, check_labels, compact_features


def read_npz(path: Path) -> tuple[Array, Array]:
    """The features (n, d) and labels (n,) of a .npz with X (n, …) of numbers and y (n,) of whole numbers.

    Never unpickles. Raises InputError for any other contents, and OSError as open() does.
    """
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [name for name in ("X", "y") if name not in arrays]
            if missing:
                found = ", ".join(arrays.files) or "none"
                raise InputError(f"{path}: has no array {missing[0]}; arrays X and y are needed, found {found}")
            X, y = arrays["X"], arrays["y"]
    except (zipfile.BadZipFile, ValueError, EOFError, TypeError) as error:
        raise InputError(f"{path}: not a .npz file of plain numbers: {error}") from None
    for name, array in (("X", X), ("y", y)):
        if array.dtype.kind not in "iufb":
            raise InputError(f"{path}: {name} holds {array.dtype}, not numbers")
    if y.ndim != 1 or X.ndim < 2 or len(X) != len(y) or not X.size:
        raise InputError(f"{path}: X {X.shape} and y {y.shape} must have the shapes (n, …) and (n,), n above 0")
    return compact_features(X.reshape(len(X), -1), path), check_labels(y, path)
