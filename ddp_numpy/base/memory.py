"""What to say if something does not fit into memory."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import named_errors


def memory_bytes() -> int:
    """How much memory this machine has."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_bytes() -> int:
    """How much memory programs may still take: with what the system keeps of files, and can give up at once."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return memory_bytes()


@contextlib.contextmanager
def memory_for(what: str, size: int) -> Iterator[None]:
    """A block that makes something of `size` bytes at least.

    Raises InputError with the size if this machine has less memory than that, or if memory runs out in the block. The
    size is looked at first, because a system that runs out of memory may kill the process without a word.
    """
    try:
        if size > memory_bytes():
            raise MemoryError
        yield
    except MemoryError:
        raise InputError(f"{what} needs {size / 1e9:,.1f} GB of memory, more than there is") from None


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """A block that reads a file, of which OSErrors become InputErrors that name it, and want of memory, too."""
    with named_errors(path), memory_for_file(path):
        yield


@contextlib.contextmanager
def memory_for_file(path: Path) -> Iterator[None]:
    """A block that reads a file. Raises InputError with the file's name and size if memory is not enough for that."""
    try:
        yield
    except MemoryError:
        size = ""
        with contextlib.suppress(OSError, ValueError):
            if path.is_file():
                size = f": the file has {path.stat().st_size:,} bytes" + " (packed)" * (path.suffix == ".gz")
        raise InputError(f"{path}: needs more memory than there is{size}") from None
