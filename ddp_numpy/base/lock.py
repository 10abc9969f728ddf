"""Folders that only one process at a time writes to."""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import HIDDEN

# How flock fails on a file system without locks, for example on Lustre that is mounted without them.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)


class FolderLock:
    """Keeps other jobs out of a folder until `release` is called or this process ends, even if it is killed.

    If the file system has no locks, a file names the holder instead, and stays if the holder is killed. A process on
    the same host then sees that the holder is gone, and takes over. On another host that can't be seen: there a
    person has to remove the file.
    """

    def __init__(self, folder: Path, complaint: Callable[[str], None]) -> None:
        """complaint: told if the file system has no locks.

        Raises InputError, with the name of the holder, if another process has the lock, and if the lock's file is a
        link or no regular file; OSError as open() does.
        """
        path, me = folder / f"{HIDDEN}.lock", f"process {os.getpid()} on {socket.gethostname()} since {_now()}"
        descriptor, why_not = _lock(path)
        self._held = [(path, descriptor)]
        if why_not is not None:
            named = folder / f"{HIDDEN}.holder"
            complaint(f"{folder}: this file system has no locks ({why_not}); {named} keeps other jobs out instead")
            me += f"\n{_mark(os.getpid())}"
            try:
                descriptor = _create(named)
            except BaseException:
                os.close(descriptor)
                raise
            self._held.append((named, descriptor))
        try:
            os.truncate(descriptor, 0)
            os.write(descriptor, me.encode())
        except BaseException:  # a full disk
            self.release()
            raise

    def release(self) -> None:
        """Let other jobs write to the folder."""
        for path, descriptor in self._held:
            if _is_at(path, descriptor):
                with contextlib.suppress(OSError):
                    path.unlink()
            os.close(descriptor)


def _lock(path: Path) -> tuple[int, str | None]:
    """Make the file if need be, and lock it. Returns its descriptor, and why the file system can't lock it, or None."""
    while True:
        descriptor = _open(path, os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise InputError(f"{path.parent}: another job writes there: {holder}; choose another --out") from None
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor, os.strerror(error.errno)
            os.close(descriptor)
            raise
        if _is_at(path, descriptor):
            return descriptor, None
        # Between our opening and our locking of the file, the last holder may have removed it. Our lock is then on a
        # removed file and keeps nobody out: try again.
        os.close(descriptor)


def _create(path: Path) -> int:
    """Make a file that was not there, or was left by a process of this host that is gone; return its descriptor."""
    while True:
        with contextlib.suppress(FileExistsError):
            return _open(path, os.O_CREAT | os.O_EXCL)
        try:
            descriptor = _open(path, 0)
        except FileNotFoundError:  # removed just now
            continue
        text, holder = _read(descriptor), _holder(descriptor)
        os.close(descriptor)
        if not _is_gone(text):
            raise InputError(
                f"{path.parent}: another job writes there: {holder}; choose another --out, or remove {path} if that "
                "job is over"
            )
        # Several processes may find that the holder is gone. Each renames the file, but only the first one has renamed
        # the old file. Another one has the first one's new file in its hands, and gives it back.
        aside = path.with_name(f"{path.name}-{secrets.token_hex(4)}")
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.rename(aside)
            if aside.read_bytes() != text:
                os.link(aside, path)
        aside.unlink(missing_ok=True)


def _open(path: Path, flags: int) -> int:
    """Open a regular file for reading and writing, never through a link. Raises InputError for anything else."""
    try:
        descriptor = os.open(path, flags | os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise InputError(f"{path}: a link, and not a file of this package; remove it") from None
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise InputError(f"{path}: not a regular file, and not of this package; remove it")


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether the open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except OSError:
        return False


def _read(descriptor: int) -> bytes:
    return os.pread(descriptor, 1000, 0)


def _holder(descriptor: int) -> str:
    """The first line of a lock's file, for people to read."""
    line = _read(descriptor).partition(b"\n")[0].decode(errors="replace").strip()
    return line or "a process that is just starting"


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S")


def _mark(process: int) -> str:
    """What tells a process from all others that have or had its number: empty if there is no such process.

    Example: "node7 pid:[4026531836] 4242 1234567", with the host, the space of process numbers (a container has one of
    its own), the number, and when the process started, in ticks since the host did.
    """
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
        state, *figures = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        if state not in "ZX":  # ended, but its parent has not asked yet how
            return f"{socket.gethostname()} {space} {process} {figures[18]}"
    return ""


def _is_gone(holder: bytes) -> bool:
    """Whether a lock's file was left by a process that ran on this host, and has ended."""
    mark = holder.decode(errors="replace").partition("\n")[2]
    here = _mark(os.getpid()).split()[:2]
    found = re.fullmatch(r"(\S+) (\S+) (\d{1,9}) \d+", mark)
    return found is not None and [found[1], found[2]] == here and _mark(int(found[3])) != mark
