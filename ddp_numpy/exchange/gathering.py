"""Brings the factors of a batch's rows to all nodes, in one message from each; and what says whether to do so."""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from ddp_numpy.base.threads import blas
from ddp_numpy.comm import Communicator, Node
from ddp_numpy.nn import Array

_TURNS, _TRIES, _SECONDS = 5, 5, 1.0

Exchanging = Callable[[], None]
Parts = Sequence[tuple[Array, Sequence[slice]]]
"""Arrays, and of each which of its rows each node has written."""


class Gathering:
    """Of these rows of these arrays: each node's rows come to all nodes."""

    def __init__(self, node: Node, parts: Parts) -> None:
        self._node = node
        counts = [sum(array[rows[n]].nbytes for array, rows in parts) for n in range(len(node.sizes))]
        self._counts = counts
        # The message of a node is a copy: the rows of each array lie in one piece, and those of several arrays don't.
        self._buffer = np.empty(sum(counts) if node.rank == 0 else 0, np.uint8)
        self._moves: list[list[tuple[Array, Array]]] = []
        start = 0
        for number in range(len(counts)):
            moves = []
            for array, rows in parts:
                mine = array[rows[number]]
                if node.rank == 0:
                    message = self._buffer[start : start + mine.nbytes].view(array.dtype).reshape(mine.shape)
                    moves.append((mine, message))
                start += mine.nbytes
            self._moves.append(moves)

    def run(self) -> None:
        """Collective. The node's ranks have written their rows, and have to wait for each other behind it."""
        node = self._node
        for rows, message in self._moves[node.index]:
            np.copyto(message, rows)
        node.gather_(self._buffer, self._counts)
        for number, moves in enumerate(self._moves):
            if number != node.index:
                for rows, message in moves:
                    np.copyto(rows, message)


def unlike_kernels(comm: Communicator) -> str | None:
    """Why nodes can't make gradients of the same bits from the same factors, else None. Collective."""
    kernels = comm.broadcast(comm.gather(blas()[0])) or []
    rank = next((rank for rank, kernel in enumerate(kernels) if kernel != kernels[0]), None)
    if rank is None:
        return None
    return (
        f"rank {rank} multiplies with {kernels[rank]}, rank 0 with {kernels[0]}: nodes that gather factors would come "
        "apart; give all the same kernel (OPENBLAS_CORETYPE), or use --exchange gradients"
    )


def much_quicker(comm: Communicator, one: Callable[[], Exchanging], other: Callable[[], Exchanging]) -> bool:
    """Whether an exchange takes nine tenths of another's time at most. Collective; all ranks get rank 0's answer.

    Each is made ready by a call, several times by turns, so that what disturbs machine or link for a while meets both.
    And no single try decides: a limited link lets some bytes through at once, and a rank that is late finds them here.
    """
    seconds: tuple[list[float], list[float]] = [], []
    begin = time.perf_counter()
    for _ in range(_TURNS):
        for make_ready, taken in zip((one, other), seconds, strict=True):
            exchange = make_ready()
            exchange()  # the first touches new memory
            for _ in range(_TRIES):
                comm.allreduce_(np.zeros(1))
                start = time.perf_counter()
                exchange()
                taken.append(time.perf_counter() - start)
        if comm.broadcast(time.perf_counter() - begin > _SECONDS):
            break
    return bool(comm.broadcast(statistics.median(seconds[0]) < 0.9 * statistics.median(seconds[1])))
