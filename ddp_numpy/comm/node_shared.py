"""Sums in memory that the ranks of a node share: each adds up its slice of all their vectors, in place.

A library's Allreduce copies what it is given into shared memory of its own, and out again. Here the vectors lie there
from the start (MPI-3 shared windows; Hoefler et al., MPI + MPI, Computing 95, 2013). Between nodes each slice
has a communicator of its own, so that all of a node's ranks use its links at once.
"""

import math
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm.communicator import Array
from ddp_numpy.comm.mpi import MPI, MPICommunicator


class NodeSharedCommunicator(MPICommunicator):
    """All ranks that mpirun started; vectors made by `empty` are summed in memory shared by the ranks of a node."""

    def __init__(self, required: bool = False) -> None:
        """required: raise InputError where memory can't be shared, rather than fall back to Allreduce."""
        super().__init__()
        self._required = required
        self._node: MPI.Intracomm | None = None
        # By the id of each vector that `empty` gave: the vector, its window, and this rank's slice of all vectors.
        self._shared: dict[int, tuple[Array, MPI.Win, list[Array]]] = {}

    def empty(self, n: int, dtype: npt.DTypeLike) -> Array:
        """An uninitialized vector (n,), shared where it can be. Collective; the memory is kept until the job's end."""
        node = self._meet()
        window = self._allocate(n * np.dtype(dtype).itemsize) if self._slices else None
        if window is None:
            if self._required:
                self.agree(InputError(f"--comm node-shared: {self.sums}; use --comm auto or allreduce"))
            return super().empty(n, dtype)
        memories: list[Any] = [window.Shared_query(rank)[0] for rank in range(node.size)]
        vectors: list[Array] = [np.frombuffer(memory, dtype, n) for memory in memories]
        mine = slice(n * node.rank // self._slices, n * (node.rank + 1) // self._slices)
        parts = [vector[mine] for vector in vectors] if node.rank < self._slices else []
        x = vectors[node.rank]
        self._shared[id(x)] = x, window, parts
        return x

    def allreduce_(self, x: Array) -> None:
        """Ranks of a node are added in their order, and nodes in the library's: the same bits on every rank."""
        shared = self._shared.get(id(x))
        if shared is None:
            super().allreduce_(x)
            return
        _, window, parts = shared
        self._wait(window)  # until all vectors are written
        if parts:
            total, *others = parts
            for part in others:
                np.add(total, part, out=total)
            if self._across is not None:
                self._across.Allreduce(MPI.IN_PLACE, total)
            for part in others:
                part[...] = total
        self._wait(window)  # until all slices are summed

    def share(self, x: Array | None) -> Array:
        """One copy a node, in a window kept until the job's end; where none is to be had, one a rank."""
        node = self._meet()
        shape, dtype = self.broadcast((x.shape, x.dtype) if x is not None else ((), np.dtype("u1")))
        leads = node.rank == 0
        window = self._allocate(math.prod(shape) * dtype.itemsize if leads else 0) if self._slices else None
        if window is None:
            return super().share(x)
        memory: Any = window.Shared_query(0)[0]
        whole: Array = np.frombuffer(memory, dtype, math.prod(shape)).reshape(shape)
        if x is not None:
            whole[...] = x
        if leads:
            self._leaders.Bcast(whole)
        self._wait(window)
        whole.flags.writeable = False
        return whole

    def _meet(self) -> MPI.Intracomm:
        """Find out, once, who shares a node, and how many slices vectors have: the fewest ranks that a node has."""
        if self._node is not None:
            return self._node
        self._node = node = cast(MPI.Intracomm, self._comm.Split_type(MPI.COMM_TYPE_SHARED))
        self._slices = self._comm.allreduce(node.size, MPI.MIN)
        nodes = self._comm.allreduce(int(node.rank == 0))
        has_slice = node.rank < self._slices
        across = self._comm.Split(node.rank if has_slice else MPI.UNDEFINED)
        self._across = across if has_slice and nodes > 1 else None
        self._leaders = self._comm.Split(0 if node.rank == 0 else MPI.UNDEFINED)
        if self._comm.allreduce(node.size, MPI.MAX) == 1:
            self._slices = 0
            self.sums = "Allreduce, as each node has one rank"
        else:
            self.sums = "node-shared memory" + (f", Allreduce between {nodes} nodes" if nodes > 1 else "")
        return node

    def _allocate(self, size: int) -> MPI.Win | None:
        """A window of so many bytes a rank; None, on every rank, where one of them can't have it."""
        assert self._node is not None
        window, why = None, ""
        try:
            window = MPI.Win.Allocate_shared(size, 1, comm=self._node)
        except MPI.Exception as error:
            why = f" ({error.Get_error_string().splitlines()[0]})"
        if self._comm.allreduce(int(window is None)):
            self._slices = 0
            self.sums = f"Allreduce, as memory can't be shared{why}"
            return None
        assert window is not None
        window.Lock_all(MPI.MODE_NOCHECK)  # one epoch for good: loads and stores are ordered by _wait
        return window

    def _wait(self, window: MPI.Win) -> None:
        assert self._node is not None
        window.Sync()
        self._node.Barrier()
        window.Sync()
