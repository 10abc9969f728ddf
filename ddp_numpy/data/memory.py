"""What happens if a file is larger than memory."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ddp_numpy.base.errors import InputError


@contextlib.contextmanager
def within_memory(path: Path) -> Iterator[None]:
    """A block that reads a file. Raises InputError with the file's name and size if memory is not enough for that."""
    try:
        yield
    except MemoryError:
        size = ""
        with contextlib.suppress(OSError, ValueError):
            if path.is_file():
                size = f": the file has {path.stat().st_size:,} bytes" + " (packed)" * (path.suffix == ".gz")
        raise InputError(f"{path}: needs more memory than there is{size}") from None
