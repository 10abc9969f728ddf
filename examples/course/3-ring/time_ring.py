"""Times ring_allreduce and MPI's own Allreduce over sizes: mpirun -n 4 python -m mpi4py time_ring.py.

A figure is the median of several sums. The two take turns, so that both have the machine in the same state.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import ring
from mpi4py import MPI

REPEATS = 7
SIZES = [1 << power for power in range(10, 23, 2)]  # bytes: 1 KiB to 4 MiB


def seconds_of(comm: MPI.Intracomm, allreduce: Callable[[Any], None], x: Any) -> float:
    """How long one sum takes until the last rank has it."""
    comm.Barrier()
    start = MPI.Wtime()
    allreduce(x)
    return float(comm.allreduce(MPI.Wtime() - start, MPI.MAX))


def main(comm: MPI.Intracomm) -> None:
    """Print a line for each size and way."""
    ways: dict[str, Callable[[Any], None]] = {
        "ring": lambda x: ring.ring_allreduce(comm, x),
        "Allreduce": lambda x: comm.Allreduce(MPI.IN_PLACE, x),
    }
    if comm.rank == 0:
        print(f"{'bytes':>10} {'way':>10} {'us':>10} {'sent a rank':>12} {'algbw MB/s':>12} {'busbw MB/s':>12}")
    for nbytes in SIZES:
        x = np.zeros(nbytes // 4, np.float32)
        rounds = [{way: seconds_of(comm, allreduce, x) for way, allreduce in ways.items()} for _ in range(1 + REPEATS)]
        for way in ways:
            seconds = float(np.median([times[way] for times in rounds[1:]]))  # the first warms up
            sent = f"{ring.bytes_sent(nbytes, comm.size):.0f}" if way == "ring" else "-"
            algbw, busbw = ring.algbw(nbytes, seconds), ring.busbw(nbytes, comm.size, seconds)
            if comm.rank == 0:
                print(f"{nbytes:10} {way:>10} {seconds * 1e6:10.1f} {sent:>12} {algbw / 1e6:12.1f} {busbw / 1e6:12.1f}")


main(MPI.COMM_WORLD)
