"""Files that are either complete or not there, and folders that only one process at a time writes to."""

import contextlib
import fcntl
import os
import secrets
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddp_numpy.base.errors import InputError

_TEMPORARY = ".tmp"


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
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing. The file appears at `path` at the end of the block, if the block raised no exception.

    The bytes are written to a hidden file in the same folder and flushed to the disk. Then the hidden file is renamed
    to `path`. So a reader sees the old file or the new one, never a part of a file. Raises OSError as open() does.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_TEMPORARY}")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_temporaries(folder: Path, idle_seconds: float = 0) -> None:
    """Remove the hidden files that `atomic_write` leaves in a folder if its process is killed.

    idle_seconds: only files that were not written to for so long are removed, because another process may still be
    writing the rest. 0 removes all; this is only for a folder that no other process writes to.
    """
    for temporary in folder.glob(f".*{_TEMPORARY}"):
        with contextlib.suppress(FileNotFoundError):
            if not idle_seconds or time.time() - temporary.stat().st_mtime > idle_seconds:
                temporary.unlink()


class FolderLock:
    """Keeps other jobs out of a folder until `release` is called or this process ends, even if it is killed."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError, with the name of the holder, if another process has the lock; OSError as open() does."""
        self._path = folder / ".lock"
        while True:
            self._file = open(self._path, "a+", encoding="utf-8")  # noqa: SIM115
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.seek(0)
                holder = self._file.read().strip() or "a process that is just starting"
                self._file.close()
                raise InputError(f"{folder}: another job writes there: {holder}; choose another --out") from None
            with contextlib.suppress(FileNotFoundError):
                # Between our opening and our locking of the file, the last holder may have removed it. Our lock is then
                # on a removed file and keeps nobody out: try again.
                if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                    break
            self._file.close()
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def release(self) -> None:
        """Let other jobs write to the folder."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _sync_folder(folder: Path) -> None:
    """Make sure that a rename in this folder is on the disk. Otherwise a power cut can undo the rename."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
