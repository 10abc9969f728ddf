"""Whether something fits into memory, said before it is made: a system that runs out of memory kills without a word."""

import contextlib
import os
from collections.abc import Iterator

from ddp_numpy.base.errors import InputError


@contextlib.contextmanager
def memory_for(what: str, size: int) -> Iterator[None]:
    """A block that makes something of `size` bytes at least.

    Raises InputError with the size if this machine has less memory than that, or if memory runs out in the block.
    """
    try:
        if size > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise MemoryError
        yield
    except MemoryError:
        raise InputError(f"{what} needs {size / 1e9:,.1f} GB of memory, more than there is") from None
