"""Limits the memory of this process, as `ulimit -v` does; and which NumPy takes little of it."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest


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


frugal_numpy = pytest.mark.skipif(
    np.lib.NumpyVersion(np.__version__) < "2.3.0", reason="NumPy 2.2 takes more memory for a moment"
)
"""Of tests that a warm step allocates little."""
