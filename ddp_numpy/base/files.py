"""Files that are either complete or not there."""

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddp_numpy.base.errors import InputError

HIDDEN = ".ddp_numpy"
"""How the names of all files begin that this package makes for itself, and removes again."""


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises InputError for anything but a regular file, and OSError as open() does.

    Opening a FIFO could wait without end, and a device may have no end.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:  # the name has a NUL in it
        raise InputError(f"{path}: can't be the name of a file: {error}") from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise InputError(f"{path}: not a regular file; a folder, pipe or device can't be read here")


@contextlib.contextmanager
def named_errors(path: Path) -> Iterator[None]:
    """A block whose OSErrors become InputErrors that name the file: this one, if the system names none."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{error.filename or path}: {error.strerror or error}") from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes a file or a folder, of which OSErrors become InputErrors that name it."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: can't write: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_write(path: Path, owner: str = "file", durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing. The file appears at `path` at the end of the block, if the block raised no exception.

    The bytes are written to a hidden file in the same folder and flushed to the disk. Then the hidden file is renamed
    to `path`. So a reader sees the old file or the new one, never a part of a file. owner: a part of the hidden file's
    name, by which `remove_temporaries` finds it. durable: whether it must still be there after a power cut, which takes
    the disk some milliseconds. Raises OSError as open() does.
    """
    temporary = path.parent / f"{HIDDEN}-{owner}-{secrets.token_hex(4)}.tmp"
    try:
        with open(temporary, "xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporaries(folder: Path, owner: str, idle_seconds: float = 0) -> None:
    """Remove the hidden files that `atomic_write` leaves in a folder if its process is killed.

    owner: as `atomic_write` was given it; "*" in it stands for anything. idle_seconds: only files that were not written
    to for so long are removed, because another process may still be writing the rest. 0 removes all; this is only for
    an owner of which no other process writes to the folder.
    """
    for temporary in folder.glob(f"{HIDDEN}-{owner}-*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if not idle_seconds or time.time() - temporary.lstat().st_mtime > idle_seconds:
                temporary.unlink()


def _sync_folder(folder: Path) -> None:
    """Make sure that a rename in this folder is on the disk. Otherwise a power cut can undo the rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
