"""Limits the memory of this process, as `ulimit -v` does."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def memory_left(size: int) -> Iterator[None]:
    """A block in which this process gets no more than so many bytes besides those that it has."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
