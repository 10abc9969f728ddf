"""Files that are there whole or not at all, and folders that one process at a time writes to."""

import contextlib
import fcntl
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ddp_numpy.base.errors import InputError

_TEMPORARY = ".tmp"


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at `path` when the block ends, and only if it ends well.

    The bytes go to a hidden file in the same folder, reach the disk, and are renamed into place: a reader
    sees the old file or the new one, never a part. Raises OSError as open() does.
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
    """Remove what `atomic_write` leaves in a folder when it is killed.

    idle_seconds: for how long nothing was written to them; 0 only for a folder that nobody else writes to.
    """
    for temporary in folder.glob(f".*{_TEMPORARY}"):
        with contextlib.suppress(FileNotFoundError):
            if not idle_seconds or time.time() - temporary.stat().st_mtime > idle_seconds:
                temporary.unlink()


class FolderLock:
    """Keeps other jobs out of a folder, until it is released or this process ends in whatever way."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError, naming the holder, where another process has the lock, and OSError as open() does."""
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
                # The one who had it may have removed the file between our opening and our locking it.
                if os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path)):
                    break
            self._file.close()
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}")
        self._file.flush()

    def release(self) -> None:
        """Let others in."""
        self._path.unlink(missing_ok=True)
        self._file.close()


def _sync_folder(folder: Path) -> None:
    """Put a rename on the disk: without this, a power cut can undo it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
