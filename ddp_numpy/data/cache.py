"""Parsed text files, kept as .npy in the user's cache folder."""

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import platformdirs

from ddp_numpy.base.files import atomic_write, remove_temporaries
from ddp_numpy.data.dataset import Array

_FORMAT = 1  # part of each name: raise it when a reader's result changes
_ABANDONED_SECONDS = 3600.0  # a file not written to for so long belongs to a writer that was killed


def cache_folder() -> Path:
    """Where this package keeps what it can make again; XDG_CACHE_HOME moves it."""
    return Path(platformdirs.user_cache_dir("ddp_numpy"))


def cached(path: Path, options: str, read: Callable[[], tuple[Array, Array]]) -> tuple[Array, Array]:
    """What `read` makes of the file at `path` with these options, from the cache where the file is unchanged.

    The key is the absolute path, the options, the size and the modification time. A newer entry replaces the
    old one of the same path. A cache that can't be read or written costs time, never the job.
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
        remove_temporaries(entry.parent, _ABANDONED_SECONDS)
    return features, labels


def is_cached(path: Path, options: str) -> bool:
    """Whether `cached` would find an entry, whole or not."""
    return _entry(path, options)[1].exists()


def _entry(path: Path, options: str) -> tuple[str, Path]:
    """The name of a path with its options, and the file that keeps what is read from it now."""
    status = path.stat()
    source = hashlib.sha256(f"{_FORMAT}\0{path.resolve()}\0{options}".encode()).hexdigest()[:16]
    return source, cache_folder() / "tables" / f"{source}-{status.st_size}-{status.st_mtime_ns}.npy"


def _store(entry: Path, features: Array, labels: Array) -> None:
    """One file for both arrays, so that no kill can leave one without the other."""
    row = np.dtype([("label", np.int64), ("features", features.dtype, features.shape[1:])])
    table = np.empty(len(labels), row)
    table["label"], table["features"] = labels, features
    entry.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(entry) as file:
        np.save(file, table)
