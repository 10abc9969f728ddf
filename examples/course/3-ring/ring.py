"""Exercise 3: an allreduce on a ring of ranks. At its end, each rank has the sum of the vectors of all ranks.

The vector is cut into as many pieces as there are ranks. Each rank sends to the rank behind it (its right neighbour)
and receives from the rank before it (its left neighbour); the right neighbour of the last rank is rank 0.

1. Reduce-scatter, size - 1 steps: in each step a rank sends one piece, receives another, and adds it to its own. Then
   each rank has one piece that is the sum of all ranks' pieces.
2. Allgather, size - 1 steps: the summed pieces go around once more, and each rank copies what it receives.
"""

from typing import Any, TypeAlias

import numpy.typing as npt
from mpi4py import MPI

from ddp_numpy.data.sampler import share

Array: TypeAlias = npt.NDArray[Any]


def cut(length: int, size: int) -> list[slice]:
    """A vector of this length, cut into `size` pieces. Some are empty if there are more ranks than numbers."""
    return [share(length, piece, size) for piece in range(size)]


def ring_allreduce(comm: MPI.Intracomm, x: Array) -> None:
    """Replace x (n,) by the sum of all ranks' x, the same bits on every rank. All ranks call this with the same n.

    comm.rank is this rank's number, and comm.size how many ranks there are. Only comm.Sendrecv moves numbers:

        comm.Sendrecv(sent, dest=right, recvbuf=received, source=left)

    sends the array `sent` to one rank, and fills the array `received` with what the other one has sent.
    """
    raise NotImplementedError("exercise: write ring_allreduce in ring.py")


def bytes_sent(nbytes: int, size: int) -> float:
    """How many bytes a rank sends in a ring allreduce of a vector of nbytes bytes, which `size` divides evenly."""
    raise NotImplementedError("exercise: write bytes_sent in ring.py")


def algbw(nbytes: int, seconds: float) -> float:
    """The algorithm bandwidth of a sum of nbytes bytes, in bytes a second, as nccl-tests define it."""
    raise NotImplementedError("exercise: write algbw in ring.py")


def busbw(nbytes: int, size: int, seconds: float) -> float:
    """The bus bandwidth of an allreduce of nbytes bytes on `size` ranks, in bytes a second, as nccl-tests define it."""
    raise NotImplementedError("exercise: write busbw in ring.py")
