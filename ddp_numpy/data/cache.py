"""Keeps parsed text files as arrays in the user's cache folder."""

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import platformdirs

from ddp_numpy.base.archive import Damaged, read_arrays
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, remove_temporaries
from ddp_numpy.data.mapped import MappedRows
from ddp_numpy.data.table import Table

_FORMAT = 5  # part of each entry's key: raise it if a reader's result, or the form of entries, changes
_NAMES = ("key", "words", "features", "labels")
OWNER = "cache"
"""Of temporary files."""
_ABANDONED_SECONDS = 3600.0  # if nothing was written to a file for this long, its writer was killed


def cache_folder() -> Path:
    """The folder for files that this package can make again. XDG_CACHE_HOME moves it."""
    return Path(platformdirs.user_cache_dir("ddp_numpy"))


@contextlib.contextmanager
def room_named(size: float) -> Iterator[None]:
    """A block that writes to the cache. Its OSErrors become InputErrors that say what helps. size: in bytes."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{cache_folder()}: a table this large is read into a file there, of {size / 1e9:.1f} GB: "
            f"{error.strerror}; set XDG_CACHE_HOME to a folder with room"
        ) from error


FileState = tuple[int, int, int, int]
"""A file's size in bytes, its modification time in ns, its inode and its device.

The first two tell a file from another of the same name, also on other hosts. If one of the four becomes another on one
host, the file was changed or replaced.
"""


def file_state(path: Path) -> FileState:
    """Raises OSError as stat() does."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino, status.st_dev


class CacheEntry:
    """The place in the cache for the rows of a table as its files are when this object is made.

    The key is the absolute paths, the options, the sizes and the modification times. If the cache can't be read or
    written, the job takes longer, but does not fail. Features that are mapped lie in a file of their own: it has
    another name each time, so that an entry never has another's features.
    """

    def __init__(self, source: Path, files: Sequence[Path], options: str) -> None:
        """source: the file, or what all are called together; options: those that change what is read from the files.

        Raises OSError as stat() does.
        """
        self._files, self._states = files, [file_state(path) for path in files]
        # A name that is no UTF-8 can't be encoded.
        place = f"{str(source.resolve())!a} {options!a}"
        states = [(str(path.resolve()), *state[:2]) for path, state in zip(files, self._states, strict=True)]
        self._key = f"{place} {states!a} {_FORMAT}".encode()
        self._source = hashlib.sha256(place.encode()).hexdigest()[:16]
        size, newest = sum(state[0] for state in self._states), max(state[1] for state in self._states)
        self._file = cache_folder() / "tables" / f"{self._source}-{size}-{newest}-{_FORMAT}.npz"

    def load(self, mapped: bool = False) -> Table | None:
        """The rows, with features in memory or mapped.

        None if they are not there, or if any byte of them was changed. Of mapped features only the size is looked at:
        their bytes may be too many.
        """
        with contextlib.suppress(OSError, MemoryError, Damaged, InputError, ValueError, TypeError):
            key, words, features, labels = read_arrays(self._named(mapped), names=_NAMES).values()
            if key.tobytes() == self._key:
                *rest, name = json.loads(words.tobytes())
                found = MappedRows(self._file.parent / name, features) if mapped else features
                table = Table.of(found, labels, rest)
                table.check()
                return table
        return None

    def new_features(self) -> Path:
        """Where features may be written that are then stored as mapped ones. Raises OSError if there is no folder."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        remove_temporaries(self._file.parent, OWNER, _ABANDONED_SECONDS)  # they may be large, and the disk full of them
        return self._file.with_suffix(f".{secrets.token_hex(8)}.features")

    def _named(self, mapped: bool) -> Path:
        return self._file.with_suffix(".mapped.npz") if mapped else self._file

    def store(self, table: Table) -> bool:
        """Keep rows that were read after this object was made, in place of older entries for the same path.

        Returns False and keeps nothing if the file was changed or replaced since: the rows may be of two files.
        """
        if not self._is_unchanged():
            return False
        folder, features = self._file.parent, table.features
        if isinstance(features, MappedRows):
            kept, held = [self._named(mapped=True), features.path], features.places
        else:
            kept, held = [self._named(mapped=False)], features
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_write(kept[0], OWNER) as file:
                # One file, so that a kill can't leave one array without the other. It has a CRC-32 of each array.
                said = json.dumps([*table.words, kept[-1].name]).encode()
                key, words = (np.frombuffer(x, np.uint8) for x in (self._key, said))
                np.savez(file, key=key, words=words, features=held, labels=table.labels)
            remove_others(kept)
            for old in folder.glob("*.npy"):  # format 1, whose names don't tell which entries are for the same path
                old.unlink()
            remove_temporaries(folder, OWNER, _ABANDONED_SECONDS)
        return True

    def _is_unchanged(self) -> bool:
        return states_of(self._files) == self._states


def remove_others(kept: Sequence[Path]) -> None:
    """Remove all that the cache holds of the same source as these files, but not them. Raises OSError."""
    for other in kept[0].parent.glob(f"{kept[0].name.partition('-')[0]}-*"):
        if other not in kept:
            other.unlink()


def states_of(files: Sequence[Path]) -> list[FileState | None]:
    """The state of each file; None of one that can't be seen here."""
    states: list[FileState | None] = []
    for path in files:
        try:
            states.append(file_state(path))
        except OSError:
            states.append(None)
    return states
