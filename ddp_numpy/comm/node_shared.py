"""Sums in memory that the ranks of a node share: each adds up its slice of all their vectors, in place.

A library's Allreduce copies what it is given into shared memory of its own, and out again. Here the vectors lie there
from the start (MPI-3 shared windows; Hoefler et al., MPI + MPI, Computing 95, 2013). Between nodes each slice
has a communicator of its own, so that all of a node's ranks use its links at once.
"""

import contextlib
import dataclasses
import math
import os
import socket
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm.communicator import WHOLE, Array, Messages, Node, SummedVector, in_cache_lines
from ddp_numpy.comm.mpi import MPI, MPICommunicator, barrier, gather_in_place, sum_in_place, swap

_SHARED_MEMORY = "/dev/shm"  # where the MPI libraries have their windows on Linux
# The libraries need some of it for themselves: measured after the start, below 0.1 MiB a rank with MPICH and Open MPI.
_SPARE_BYTES = 1 << 20


class NodeSharedCommunicator(MPICommunicator):
    """All ranks that mpirun started; vectors made by `summed_vector` lie in memory shared by the ranks of a node."""

    def __init__(self, required: bool = False) -> None:
        """required: raise InputError if memory can't be shared, rather than fall back to Allreduce."""
        super().__init__()
        self._required = required
        self._node: _Node | None = None
        self._lacks: dict[str, str] = {}

    def summed_vector(self, n: int, dtype: npt.DTypeLike) -> SummedVector:
        """A vector (n,), shared if it can be. Collective."""
        node = self._meet()
        window = None
        if node.slices:
            window, why = self._allocate(n * np.dtype(dtype).itemsize)
            if window is None:
                self.sums = f"Allreduce, as {why}"
        else:
            self.sums = "Allreduce, as each node has one rank"
        if window is None:
            return super().summed_vector(n, dtype)
        self.sums = "node-shared memory" + (f", Allreduce between {len(node.sizes)} nodes" if node.across else "")
        memories: list[Any] = [window.Shared_query(rank)[0] for rank in range(node.comm.size)]
        return NodeSharedVector(self, node, window, [np.frombuffer(memory, dtype, n) for memory in memories])

    def node(self, nbytes: int) -> Node:
        """The ranks of this node, if they can share so much memory; else this rank alone."""
        node = self._meet()
        if node.slices:
            window, why = self._allocate(nbytes if node.comm.rank == 0 else 0)
            if window is not None:
                return SharedNode(self, node, window)
            self._lacks["exchange"] = f"; nothing else is shared, as {why}"
        return super().node(nbytes)

    def share(self, x: Array | None) -> Array:
        """One copy per node, in a window kept until the job's end; if there is no such memory, one per rank."""
        node = self._meet()
        shape, dtype = self.broadcast((x.shape, x.dtype) if x is not None else ((), np.dtype("u1")))
        leads = node.comm.rank == 0
        window = None
        if node.slices:
            window, why = self._allocate(math.prod(shape) * dtype.itemsize if leads else 0)
            if window is None:
                self._lacks["data"] = f"; a copy of the data on each rank, as {why}"
        if window is None:
            return super().share(x)
        memory: Any = window.Shared_query(0)[0]
        whole: Array = np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)
        if x is not None:
            whole[...] = x
        with self.here.of_all:
            if leads:
                node.leaders.Bcast(whole)
            node.wait(window)
        whole.flags.writeable = False
        return whole

    def __str__(self) -> str:
        return super().__str__() + "".join(self._lacks.values())

    def _meet(self) -> "_Node":
        """Find out, once, which ranks share a node, and into how many slices vectors are cut."""
        if self._node is not None:
            return self._node
        comm = cast(MPI.Intracomm, self._comm.Split_type(MPI.COMM_TYPE_SHARED))
        fewest, most = (self._comm.allreduce(comm.size, operation) for operation in (MPI.MIN, MPI.MAX))
        has_slice = comm.rank < fewest
        across, leaders = (
            cast(MPI.Intracomm, self._comm.Split(colour))
            for colour in (comm.rank if has_slice else MPI.UNDEFINED, 0 if comm.rank == 0 else MPI.UNDEFINED)
        )
        index, sizes = comm.bcast((leaders.rank, leaders.allgather(comm.size)) if comm.rank == 0 else None)
        spans = has_slice and len(sizes) > 1
        self._node = _Node(comm, leaders, across if spans else None, fewest if most > 1 else 0, index, tuple(sizes))
        return self._node

    def _allocate(self, size: int) -> tuple[MPI.Win | None, str]:
        """A window of so many bytes for this rank, and all of them are there.

        If some rank can't have its bytes, None and why, on every rank. Raises InputError then if memory is to be shared
        at all events.
        """
        node = self._meet()
        window, why = None, ""
        with self.here.of_all:
            node_size = node.comm.allreduce(size)
            if node.comm.rank == 0:
                why = _lack(node_size + _SPARE_BYTES * node.comm.size)
            why = node.comm.bcast(why)
            if not why:
                try:
                    window = MPI.Win.Allocate_shared(size, 1, comm=node.comm)
                except MPI.Exception as error:
                    why = f"memory can't be shared ({error.Get_error_string().splitlines()[0]})"
            whole = node.comm.allreduce(int(window is not None)) == node.comm.size
            if whole and window is not None and not _reserve(window.Shared_query(node.comm.rank)[0]):
                why = f"{_SHARED_MEMORY} on {socket.gethostname()} is full"
            why = next(filter(None, self._comm.allgather(why)), "")
            if why and whole and window is not None:
                window.Free()
        if why:
            if self._required:
                self.agree(InputError(f"--comm node-shared: {why}; use --comm auto or allreduce"))
            return None, why
        assert window is not None
        window.Lock_all(MPI.MODE_NOCHECK)  # until it is freed: loads and stores are ordered by _Node.wait
        return window, ""


def _lack(size: int) -> str:
    """What is missing of so many bytes of shared memory on this host; empty if nothing is, or nobody knows.

    Asked before the memory is allocated, which always goes well: pages are found when they are first written, and a
    process for which none is left is killed by SIGBUS.
    """
    if not os.path.isdir(_SHARED_MEMORY):
        return ""
    found = os.statvfs(_SHARED_MEMORY)
    free = found.f_bavail * found.f_frsize
    if size <= free:
        return ""
    return f"{_SHARED_MEMORY} on {socket.gethostname()} has {free >> 20:,} MiB free and {-(-size >> 20):,} are needed"


def _reserve(memory: Any) -> bool:
    """Take all pages of this memory now. Returns whether they could be had: another job may have been quicker.

    The kernel writes them, with zeros: where it finds no page for a write of ours it would send SIGBUS, and for a write
    of its own it reports an error.
    """
    rest = memoryview(memory)
    with contextlib.suppress(OSError), open("/dev/zero", "rb", buffering=0) as zeros:
        while rest and (count := zeros.readinto(rest)):
            rest = rest[count:]
    return not rest


@dataclasses.dataclass
class _Node:
    """The ranks that share memory with this one."""

    comm: MPI.Intracomm
    leaders: MPI.Intracomm
    """The first rank of each node; no communicator on the other ranks."""
    across: MPI.Intracomm | None
    """The ranks that have the same slice as this one, one on each node; None if there is one node, or no slice."""
    slices: int
    """Into how many slices vectors are cut: as many as the smallest node has ranks. 0 if no memory is shared."""
    index: int
    """This node's number."""
    sizes: tuple[int, ...]
    """How many ranks each node has."""

    def wait(self, window: MPI.Win) -> None:
        """Wait for all ranks of the node; what each has written into the window before, all see behind."""
        window.Sync()
        barrier(self.comm)
        window.Sync()


class SharedNode(Node):
    """The ranks of a node, with arrays in a window of its first rank."""

    def __init__(self, comm: NodeSharedCommunicator, node: _Node, window: MPI.Win) -> None:
        self.rank, self.index, self.sizes = node.comm.rank, node.index, node.sizes
        self._node, self._window, self._here = node, window, comm.here
        memory: Any = window.Shared_query(0)[0]
        self._memory: Array = np.frombuffer(memory, np.uint8)
        self._used = 0

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
        nbytes, start = math.prod(shape) * np.dtype(dtype).itemsize, self._used
        self._used += in_cache_lines(nbytes)
        assert self._used <= self._memory.nbytes, "more memory than was asked for"
        array: Array = self._memory[start : start + nbytes].view(dtype).reshape(shape)
        return array

    def wait(self) -> None:
        with self._here.of_node:
            self._node.wait(self._window)

    def gather_(self, buffer: npt.NDArray[np.uint8], counts: Sequence[int]) -> None:
        with self._here.of_partners:  # on all ranks alike: the watchdog compares how many calls each has begun
            if self._node.across is not None and buffer.size:
                gather_in_place(self._node.across, buffer, counts)

    def swap(self, sent: Messages, received: Messages) -> None:
        with self._here.of_partners:
            if self._node.across is not None:
                swap(self._node.across, sent, received)

    def broadcast_(self, x: Array) -> None:
        with self._here.of_all:
            if self.rank == 0:
                self._node.leaders.Bcast(x)
        self.wait()


class NodeSharedVector(SummedVector):
    """A vector of each rank, in a window in which a node's ranks see one another's."""

    def __init__(self, comm: NodeSharedCommunicator, node: _Node, window: MPI.Win, vectors: list[Array]) -> None:
        """vectors: those of the node's ranks, in their order."""
        super().__init__(comm, vectors[node.comm.rank])
        self._node, self._window, self._vectors, self._here = node, window, vectors, comm.here
        # By start and stop of a part: this rank's slice of it, in the vectors of all ranks. Made once for each part.
        self._slices: dict[tuple[int | None, int | None], list[Array]] = {}

    def sum(self, part: slice = WHOLE) -> None:
        """Ranks of a node are added in their order, and nodes in the library's: the same bits on every rank."""
        node, slices = self._node, self._slices.get((part.start, part.stop))
        if slices is None:
            slices = self._slices[part.start, part.stop] = self._slices_of(part)
        with self._here.of_all:
            node.wait(self._window)  # until all vectors are written
            if slices:
                total, *others = slices
                for other in others:
                    np.add(total, other, out=total)
                if node.across is not None:
                    sum_in_place(node.across, total)
                for other in others:
                    other[...] = total
            node.wait(self._window)  # until all slices are summed

    def free(self) -> None:
        super().free()
        self._slices.clear()
        self._vectors.clear()
        self._window.Unlock_all()
        self._window.Free()

    def _slices_of(self, part: slice) -> list[Array]:
        """This rank's slice of a part of all vectors; none if the smallest node has fewer ranks than this one."""
        rank, slices = self._node.comm.rank, self._node.slices
        start, stop, _ = part.indices(self.array.size)
        n = stop - start
        mine = slice(start + n * rank // slices, start + n * (rank + 1) // slices)
        return [vector[mine] for vector in self._vectors] if rank < slices else []
