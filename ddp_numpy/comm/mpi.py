"""The communicator over MPI. This is the only module that imports mpi4py, and it sets how MPI starts."""

import os
import socket
import time
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeVar, cast

import mpi4py
import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import JobError
from ddp_numpy.comm.communicator import Array, Communicator, Messages, Node, SummedVector
from ddp_numpy.comm.lifeline import ABORTING, tell_launcher

# mpi4py would start MPI on import. Here MPI starts later, when world() has checked that mpirun fits this library.
mpi4py.rc.initialize = False
mpi4py.rc.finalize = True

# Open MPI's wheel prints an error of this component for each window that is made, and then works without it.
os.environ.setdefault("OMPI_MCA_osc", "^ucx")

from mpi4py import MPI as MPI  # noqa: E402
from mpi4py.util import pkl5  # noqa: E402

T = TypeVar("T")

# After MPI_Abort, mpirun may end before it has passed on the last lines of that rank: MPICH's mpirun lost one message
# in forty. So the rank waits a little before it aborts.
_FORWARD_SECONDS = 0.2

# A rank that waits inside MPICH up to version 4 never yields its core: those versions are built without sched_yield. If
# a node has more ranks than cores, the rank that the others wait for may then not run until the system takes a core
# away from one of them: 4 ranks on 2 cores made 3,900 images/s, and make 83,000 since the waiting is done here.
_NEVER_YIELDS = MPI.get_vendor()[0] == "MPICH" and MPI.get_vendor()[1] < (5, 0)


_ROUND_TRIPS = 50


def barrier(comm: MPI.Intracomm) -> None:
    """Return once all ranks of a communicator have called this."""
    if _NEVER_YIELDS:
        _complete(comm.Ibarrier())
    else:
        comm.Barrier()


def sum_in_place(comm: MPI.Intracomm, x: Array) -> None:
    """Replace x, of one shape and dtype on all ranks of a communicator, by its sum over them."""
    if _NEVER_YIELDS:
        _complete(comm.Iallreduce(MPI.IN_PLACE, x))
    else:
        comm.Allreduce(MPI.IN_PLACE, x)


def gather_in_place(comm: MPI.Intracomm, buffer: npt.NDArray[np.uint8], counts: Sequence[int]) -> None:
    """Bring each rank's part of a buffer, of so many bytes, to all ranks of a communicator."""
    if _NEVER_YIELDS:
        _complete(comm.Iallgatherv(MPI.IN_PLACE, [buffer, counts]))
    else:
        comm.Allgatherv(MPI.IN_PLACE, [buffer, counts])


def swap(comm: MPI.Intracomm, sent: Messages, received: Messages) -> None:
    """Send a message to each rank of a communicator, and get one of each."""
    if _NEVER_YIELDS:
        _complete(comm.Ialltoallv(sent, received))
    else:
        comm.Alltoallv(sent, received)


def _complete(request: MPI.Request) -> None:
    while not request.Test():
        os.sched_yield()


def library_version() -> str:
    """The MPI library's name and version. May be called before MPI starts."""
    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def gate() -> Callable[[], None]:
    """A barrier of all ranks that is apart from every other call. Collective.

    A rank in it and a rank in another call wait, and don't take each other's messages for their own.
    """
    comm = MPI.COMM_WORLD.Dup()

    def wait() -> None:
        if not MPI.Is_finalized():
            barrier(comm)

    return wait


class LoneNode(Node):
    """A rank that shares its memory with no other."""

    def __init__(self, comm: "MPICommunicator") -> None:
        self.index, self.sizes = comm.rank, (1,) * comm.size
        self.broadcast_ = comm.broadcast_  # type: ignore[method-assign]
        self._here = comm.here

    def gather_(self, buffer: npt.NDArray[np.uint8], counts: Sequence[int]) -> None:
        with self._here.of_all:
            gather_in_place(MPI.COMM_WORLD, buffer, counts)

    def swap(self, sent: Messages, received: Messages) -> None:
        with self._here.of_all:
            swap(MPI.COMM_WORLD, sent, received)


class MPICommunicator(Communicator):
    """All ranks that mpirun started. Sums are made by the MPI library's own Allreduce."""

    def __init__(self) -> None:
        if not MPI.Is_initialized():
            MPI.Init_thread()
        self._comm = MPI.COMM_WORLD
        self.rank, self.size = self._comm.rank, self._comm.size
        self.library = library_version()
        self.sums = ""

    def summed_vector(self, n: int, dtype: npt.DTypeLike) -> SummedVector:
        self.sums = self.sums or "Allreduce"
        return super().summed_vector(n, dtype)

    def node(self, nbytes: int) -> Node:
        """This rank alone."""
        return LoneNode(self)

    def allreduce_(self, x: Array) -> None:
        with self.here.of_all:
            sum_in_place(self._comm, x)

    def broadcast_(self, x: Array, root: int = 0) -> None:
        with self.here.of_all:
            self._comm.Bcast(x, root)

    def broadcast(self, obj: T, root: int = 0) -> T:
        with self.here.of_all:
            return cast(T, self._comm.bcast(obj, root))

    def share(self, x: Array | None) -> Array:
        shape, dtype = self.broadcast((x.shape, x.dtype) if x is not None else ((), np.dtype("u1")))
        copy = np.empty(shape, dtype) if x is None else x
        self.broadcast_(copy)
        return copy

    def gather(self, obj: T, root: int = 0) -> list[T] | None:
        with self.here.of_all:
            return pkl5.Intracomm(self._comm).gather(obj, root)  # copies arrays half as often as MPI.Intracomm does

    def meet(self) -> None:
        barrier(self._comm)

    def clock_offset(self) -> tuple[float, float]:
        """By round trips to rank 0, of which the shortest counts: its answer came within that trip.

        Ranks on the host of rank 0 have its clock (Cristian, Probabilistic clock synchronization, 1989).
        """
        hosts = self.broadcast(self.gather(socket.gethostname())) or []
        with self.here.of_all:
            if self.rank == 0:
                for rank in range(self.size):
                    if hosts[rank] != hosts[0]:
                        self._tell_time(rank)
            elif hosts[self.rank] != hosts[0]:
                return min((self._ask_time() for _ in range(_ROUND_TRIPS)), key=lambda found: found[1])
        return 0.0, 0.0

    def _tell_time(self, rank: int) -> None:
        now = np.empty(1)
        for _ in range(_ROUND_TRIPS):
            self._comm.Recv(now, rank)
            now[0] = time.perf_counter()
            self._comm.Send(now, rank)

    def _ask_time(self) -> tuple[float, float]:
        """From one round trip, how far rank 0's clock is ahead, and how far off that may be."""
        told, start = np.empty(1), time.perf_counter()
        self._comm.Send(told, 0)
        self._comm.Recv(told, 0)
        half = (time.perf_counter() - start) / 2
        return float(told[0]) - start - half, half

    def agree(self, error: JobError | None) -> None:
        brought = None if error is None else (socket.gethostname(), error)
        with self.here.of_all:
            entries = self._comm.allgather(brought)
        for rank, entry in enumerate(entries):
            if entry is not None:
                host, first = entry
                # An error on rank 0 would most likely happen on all ranks, so the message names no rank. An error that
                # only another rank has needs that rank and its host.
                agreed = first if rank == 0 else type(first)(f"rank {rank} on {host}: {first}")
                agreed.agreed = True
                raise agreed from error

    def abort(self, status: int) -> NoReturn:
        try:
            tell_launcher(ABORTING)
            time.sleep(_FORWARD_SECONDS)
            self._comm.Abort(status)
        finally:  # an impatient Ctrl-C; an MPI_Abort that returns
            os._exit(status)
