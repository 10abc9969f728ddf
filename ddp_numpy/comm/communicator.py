"""What every way of communicating offers, and the one for a process that is alone."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, Protocol, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import JobError

T = TypeVar("T")
Array = npt.NDArray[Any]


class Communicator(Protocol):
    """The ranks of a job. All methods but `abort` are collective: every rank calls them, in one order."""

    rank: int
    """This process's number, 0..size-1. Rank 0 alone prints and writes files."""
    size: int
    """How many processes train together."""
    library: str
    """The MPI library and its version, for people to read; empty where there is none."""

    sums: str
    """How `allreduce_` sums the vectors that `empty` made, for people to read; empty where there is nothing to sum."""

    def empty(self, n: int, dtype: npt.DTypeLike) -> Array:
        """An uninitialized vector (n,) in the memory that `allreduce_` is fastest on."""
        ...

    def allreduce_(self, x: Array) -> None:
        """Replace x, of one shape and dtype on all ranks, by its sum over ranks, the same bits on every rank."""
        ...

    def broadcast_(self, x: Array, root: int = 0) -> None:
        """Replace x, of one shape and dtype on all ranks, by the root's x."""
        ...

    def broadcast(self, obj: T, root: int = 0) -> T:
        """The root's object, pickled: for settings and small things, never on the hot path."""
        ...

    def share(self, x: Array | None) -> Array:
        """The array of rank 0 (others bring None) on every rank, read-only: one copy a node where that can be."""
        ...

    def gather(self, obj: T, root: int = 0) -> list[T] | None:
        """Every rank's object, in rank order, at the root; None elsewhere."""
        ...

    def agree(self, error: JobError | None) -> None:
        """Raise on every rank if any rank brings an error: that of the lowest rank, marked as agreed."""
        ...

    def abort(self, status: int) -> NoReturn:
        """End every rank at once with this exit status. For what nobody foresaw: buffers are not written."""
        ...

    def on_root(self, work: Callable[[], T], root: int = 0) -> T:
        """Run `work` on the root alone and give its result to every rank; a JobError of its is raised on all."""
        result = None
        with self.together():
            if self.rank == root:
                result = work()
        return self.broadcast(cast(T, result), root)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """A block that ends well on every rank, or raises the same JobError on every rank."""
        error = None
        try:
            yield
        except JobError as raised:
            error = raised
        self.agree(error)

    def hosts(self) -> list[str]:
        """The names of the hosts the ranks run on, each once, in rank order, on every rank."""
        names = self.broadcast(self.gather(socket.gethostname()))
        return list(dict.fromkeys(names or []))


class SingleProcess(Communicator):
    """A job of one rank: nothing to sum, nobody to tell."""

    def __init__(self) -> None:
        self.rank, self.size, self.library, self.sums = 0, 1, "", ""

    def empty(self, n: int, dtype: npt.DTypeLike) -> Array:
        return np.empty(n, dtype)

    def allreduce_(self, x: Array) -> None:
        pass

    def broadcast_(self, x: Array, root: int = 0) -> None:
        pass

    def broadcast(self, obj: T, root: int = 0) -> T:
        return obj

    def share(self, x: Array | None) -> Array:
        assert x is not None
        return x

    def gather(self, obj: T, root: int = 0) -> list[T] | None:
        return [obj]

    def agree(self, error: JobError | None) -> None:
        if error is not None:
            error.agreed = True
            raise error

    def abort(self, status: int) -> NoReturn:
        raise SystemExit(status)
