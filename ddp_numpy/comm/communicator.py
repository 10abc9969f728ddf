"""What every way of communicating offers, and the one for a process that is alone."""

import abc
import contextlib
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import JobError
from ddp_numpy.comm.whereabouts import Place, Whereabouts

T = TypeVar("T")
Array = npt.NDArray[Any]

Messages = tuple[npt.NDArray[np.uint8], Sequence[int]]
"""The memory of messages that lie one behind the other, and the size of each in bytes."""
WHOLE = slice(None)
_CACHE_LINE = 64


class Communicator(abc.ABC):
    """The ranks of a job. All methods but `abort` are collective: every rank calls them, in the same order."""

    rank: int
    """This process's number, 0..size-1. Rank 0 alone prints and writes files."""
    size: int
    """How many processes train together."""
    library: str
    """The MPI library and its version, for people to read; empty if there is none."""

    sums: str
    """How vectors of `summed_vector` are summed, for people to read; empty if there is none."""
    here = Whereabouts()
    """Where this process is, whichever of its communicators is called."""

    def summed_vector(self, n: int, dtype: npt.DTypeLike) -> "SummedVector":
        """A vector (n,) on each rank, to be summed over ranks many times: in the memory that is summed fastest."""
        return SummedVector(self, np.empty(n, dtype))

    @abc.abstractmethod
    def node(self, nbytes: int) -> "Node":
        """The ranks that share memory with this one, with room for arrays of so many bytes in all."""

    @abc.abstractmethod
    def allreduce_(self, x: Array) -> None:
        """Replace x, of one shape and dtype on all ranks, by its sum over ranks, the same bits on every rank."""

    @abc.abstractmethod
    def broadcast_(self, x: Array, root: int = 0) -> None:
        """Replace x, of one shape and dtype on all ranks, by the root's x."""

    @abc.abstractmethod
    def broadcast(self, obj: T, root: int = 0) -> T:
        """The root's object, pickled: for settings and small things, never on the hot path."""

    @abc.abstractmethod
    def share(self, x: Array | None) -> Array:
        """The array of rank 0 (others bring None) on every rank, read-only: one copy per node if that can be."""

    @abc.abstractmethod
    def gather(self, obj: T, root: int = 0) -> list[T] | None:
        """Every rank's object, in rank order, at the root; None elsewhere."""

    @abc.abstractmethod
    def meet(self) -> None:
        """Wait for all ranks, within another call: this one is not counted."""

    @abc.abstractmethod
    def clock_offset(self) -> tuple[float, float]:
        """How many seconds rank 0's time.perf_counter is ahead of this rank's, and how far off that may be at most."""

    @abc.abstractmethod
    def agree(self, error: JobError | None) -> None:
        """Raise on every rank if any rank brings an error: that of the lowest rank, marked as agreed."""

    @abc.abstractmethod
    def abort(self, status: int) -> NoReturn:
        """End every rank at once with this exit status, because of an error nobody foresaw: buffers are not written."""

    def on_root(self, work: Callable[[], T], root: int = 0) -> T:
        """Run `work` on the root alone and return its result on every rank; a JobError in it is raised on all."""
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

    def training(self) -> contextlib.AbstractContextManager[None]:
        """A block in which the ranks keep pace: if one lets the others wait for too long, the job ends."""
        return self.here.at(Place.TRAINING)

    def unhurried(self) -> contextlib.AbstractContextManager[None]:
        """A block in which this rank may let the others wait as long as it takes, in training too."""
        return self.here.at(Place.UNHURRIED)

    def rank_hosts(self) -> list[str]:
        """The name of each rank's host, on every rank."""
        return self.broadcast(self.gather(socket.gethostname())) or []

    def hosts(self) -> list[str]:
        """The names of the hosts the ranks run on, each once, in rank order, on every rank."""
        return list(dict.fromkeys(self.rank_hosts()))

    def __str__(self) -> str:
        return f"{self.library or 'one process, no MPI'}" + (f"; sums by {self.sums}" if self.sums else "")


class SummedVector:
    """A vector that each rank has one of, and that is summed over ranks. This kind lies in each rank's own memory."""

    array: Array
    """This rank's vector (n,). It may be written to between two sums."""

    def __init__(self, comm: Communicator, array: Array) -> None:
        self.array = array
        self._allreduce = comm.allreduce_

    def sum(self, part: slice = WHOLE) -> None:
        """Replace this part of the vector by its sum over ranks, the same bits on every rank. Collective.

        part: the same on all ranks, with a step of 1.
        """
        self._allreduce(self.array if part is WHOLE else self.array[part])

    def free(self) -> None:
        """Give the memory back. Collective. Neither `array` nor a view of it may be used any more."""
        del self.array


class Node:
    """Ranks that share memory, and what nodes do together. This kind is a rank that shares none, in a job of its own.

    Each method is collective: all ranks of all nodes call it, in the same order.
    """

    rank = 0
    """This rank's number among those of its node."""
    index = 0
    """This node's number. Rank 0 of the job is rank 0 of node 0."""
    sizes: tuple[int, ...] = (1,)
    """How many ranks each node has."""

    @property
    def size(self) -> int:
        """How many ranks this node has."""
        return self.sizes[self.index]

    @property
    def first(self) -> int:
        """How many ranks the nodes before this one have."""
        return sum(self.sizes[: self.index])

    @property
    def partners(self) -> int:
        """How many ranks of this node have a partner of the same number on every other node."""
        return min(self.sizes)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        """An array of zeros that all ranks of this node see; it begins at a cache line. Not to be freed."""
        return np.zeros(shape, dtype)

    def wait(self) -> None:
        """Wait for all ranks of this node; what each has written into arrays before, all see behind."""

    def gather_(self, buffer: npt.NDArray[np.uint8], counts: Sequence[int]) -> None:
        """Bring every node's part of a buffer to all nodes, among partners. Those of an empty buffer do nothing.

        counts: the parts' sizes in bytes. The parts lie one behind the other, and each node has written its own.
        """

    def swap(self, sent: Messages, received: Messages) -> None:
        """Send a message to each node, and get one of each, among partners. Ranks without partners do nothing."""

    def broadcast_(self, x: Array) -> None:
        """Replace x, made by `array`, by that of node 0, and wait."""


def in_cache_lines(nbytes: int) -> int:
    """The bytes that an array of so many takes of a node's memory."""
    return -(-nbytes // _CACHE_LINE) * _CACHE_LINE


class SingleProcess(Communicator):
    """A job of one rank: nothing to sum, nobody to tell."""

    def __init__(self) -> None:
        self.rank, self.size, self.library, self.sums = 0, 1, "", ""

    def node(self, nbytes: int) -> Node:
        return Node()

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

    def meet(self) -> None:
        pass

    def clock_offset(self) -> tuple[float, float]:
        return 0.0, 0.0

    def agree(self, error: JobError | None) -> None:
        if error is not None:
            error.agreed = True
            raise error

    def abort(self, status: int) -> NoReturn:
        raise SystemExit(status)
