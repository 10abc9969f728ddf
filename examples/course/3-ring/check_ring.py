"""Checks ring_allreduce on the ranks of an mpirun. Rank 0 prints the first fault that a rank finds, or nothing."""

import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import Any

import numpy as np
import ring
from mpi4py import MPI

LENGTHS = (12, 24, 1000, 1001, 13, 3, 2, 1, 0)  # the easy ones first
WAIT_SECONDS = 30


class Counting(MPI.Intracomm):
    """A communicator that counts the bytes that this rank sends with Sendrecv."""

    sent_bytes = 0

    def Sendrecv(self, sendbuf: Any, *arguments: Any, **named: Any) -> None:  # noqa: N802
        """Count, and do it."""
        self.sent_bytes += np.asarray(sendbuf[0] if isinstance(sendbuf, list | tuple) else sendbuf).nbytes
        super().Sendrecv(sendbuf, *arguments, **named)


def faults(comm: Counting) -> Iterator[str]:
    """What is wrong, in sentences. Each rank makes all calls, whatever it has found."""
    rank, size = comm.rank, comm.size
    for length in LENGTHS:
        for dtype in (np.float64, np.float32):
            told = f"{length} numbers ({np.dtype(dtype)}) on {size} ranks"
            x = np.arange(length, dtype=dtype) + 1000 * rank  # whole numbers, whose sums are exact
            right = size * np.arange(length, dtype=dtype) + 1000 * (size * (size - 1) // 2)
            comm.sent_bytes = 0
            ring.ring_allreduce(comm, x)
            comm.Barrier()  # so that no rank takes a message of this sum for one of the next
            if not np.array_equal(x, right):
                wrong = np.flatnonzero(x != right)
                yield (
                    f"{told}: on rank {rank}, {len(wrong)} are wrong, the first is number {wrong[0]}: {x[wrong[0]]}, "
                    f"not {right[wrong[0]]}. Draw on paper which piece each rank sends and receives in each step"
                )
            elif length % size == 0 and comm.sent_bytes != 2 * (size - 1) * x.nbytes // size:
                yield (
                    f"{told}: rank {rank} sent {comm.sent_bytes} bytes with Sendrecv, and a ring needs "
                    f"{2 * (size - 1) * x.nbytes // size}: 2 (size - 1) pieces, not whole vectors"
                )
    x = np.random.default_rng(rank).normal(size=1001)
    ring.ring_allreduce(comm, x)
    first = comm.bcast(x)
    if not np.array_equal(x, first):
        yield (
            f"rank {rank} has other bits than rank 0, as they add up in another order. Only one rank may add the last "
            "summand to a piece; all others copy the sum from it"
        )


def show_where_and_end(rank: int) -> None:
    """Say in which line of ring.py this rank waits, give the others the time to do the same, and end it."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    lines = [step.lineno for step in traceback.extract_stack(frame) if step.filename == ring.__file__]
    where = f"in line {lines[0]} of ring.py" if lines else "for the others, behind ring_allreduce"
    sys.stderr.write(f"rank {rank} waits {where}\n")
    sys.stderr.flush()
    time.sleep(2)
    os._exit(1)


world = Counting(MPI.COMM_WORLD)
too_long = threading.Timer(WAIT_SECONDS, show_where_and_end, [world.rank])
too_long.daemon = True
too_long.start()
found = world.gather(list(faults(world)))
if found is not None:
    for sentences in found:
        if sentences:
            print(sentences[0])
            break
