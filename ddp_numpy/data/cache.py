"""Keeps parsed text files as .npy files in the user's cache folder."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs

from ddp_numpy.base.files import atomic_write, remove_temporaries
from ddp_numpy.data.dataset import Array

_FORMAT = 1  # part of each entry's name: raise it if a reader's result changes
_OWNER = "cache"  # of temporary files
_ABANDONED_SECONDS = 3600.0  # if nothing was written to a file for this long, its writer was killed


def cache_folder() -> Path:
    """The folder for files that this package can make again. XDG_CACHE_HOME moves it."""
    return Path(platformdirs.user_cache_dir("ddp_numpy"))


def cached(path: Path, options: str, read: Callable[[], tuple[Array, Array]]) -> tuple[Array, Array]:
    """The result of `read` for the file at `path` with these options: from the cache, if the file is unchanged.

    The key is the absolute path, the options, the size and the modification time. A newer entry replaces the
    old one of the same path. If the cache can't be read or written, the job takes longer, but does not fail.
    """
    source, entry = _entry(path, options)
    with contextlib.suppress(OSError, ValueError, EOFError):
        table = np.load(entry, allow_pickle=False)
        return np.ascontiguousarray(table["features"]), np.ascontiguousarray(table["label"])
    features, labels = read()
    with contextlib.suppress(OSError):
        _store(entry, features, labels)
        for other in entry.parent.glob(f"{source}-*.npy"):
            if other != entry:
                other.unlink()
        remove_temporaries(entry.parent, _OWNER, _ABANDONED_SECONDS)
    return features, labels


def is_cached(path: Path, options: str) -> bool:
    """Whether `cached` would find an entry. The entry may be damaged."""
    return _entry(path, options)[1].exists()


def _entry(path: Path, options: str) -> tuple[str, Path]:
    """A name for this path with these options, and the cache's file for the path's present size and time."""
    status = path.stat()
    source = hashlib.sha256(f"{_FORMAT}\0{path.resolve()}\0{options}".encode()).hexdigest()[:16]
    return source, cache_folder() / "tables" / f"{source}-{status.st_size}-{status.st_mtime_ns}.npy"


def _store(entry: Path, features: Array, labels: Array) -> None:
    """Write both arrays to one file, so that a kill can't leave one array without the other."""
    row = np.dtype([("label", np.int64), ("features", features.dtype, features.shape[1:])])
    table = np.empty(len(labels), row)
    table["label"], table["features"] = labels, features
    entry.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(entry, _OWNER) as file:
        np.save(file, table)
