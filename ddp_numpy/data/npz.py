"""Labelled rows from .npz files with arrays X and y."""

from pathlib import Path

from ddp_numpy.base.archive import Damaged, read_arrays
from ddp_numpy.base.errors import InputError
from ddp_numpy.data.dataset import Array, check_labels, compact_features


def read_npz(path: Path) -> tuple[Array, Array]:
    """The features (n, d) and labels (n,) of a .npz with X (n, …) of numbers and y (n,) of whole numbers.

    Never unpickles. Raises InputError for any other contents, and OSError as open() does.
    """
    try:
        X, y = read_arrays(path, names=("X", "y")).values()
    except Damaged as error:
        raise InputError(f"{path}: {error}") from None
    for name, array in (("X", X), ("y", y)):
        if array.dtype.kind not in "iufb":
            raise InputError(f"{path}: {name} holds {array.dtype}, not numbers")
    if y.ndim != 1 or X.ndim < 2 or len(X) != len(y) or not X.size:
        raise InputError(f"{path}: X {X.shape} and y {y.shape} must have the shapes (n, …) and (n,), n above 0")
    return compact_features(X.reshape(len(X), -1), path), check_labels(y, path)
