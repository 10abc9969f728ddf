"""A network that sleeps in each step on one rank of the job: for --model-file. SECRET=word decides which rank it is."""

import os
import sys
import time
import zlib

from ddp_numpy import Dense, Layer, ReLU, world
from ddp_numpy.nn import EVALUATION, Array, Context

SLEEP_SECONDS = 0.015


class SlowDense(Dense):
    """A dense layer that sleeps before its forward."""

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, I) -> Y (B, O)."""
        time.sleep(SLEEP_SECONDS)
        return super().forward(X, context)


def slow_rank(secret: str, size: int) -> int:
    """Which rank of `size` ranks sleeps."""
    return zlib.crc32(secret.encode()) % size


def build(input_shape: tuple[int, ...], classes: int) -> list[Layer]:
    """The layers of the network. A process that trains alone, or beside others, is never slowed."""
    comm = world()
    shares_batches = comm.size > 1 and "--beside" not in sys.argv
    slow = shares_batches and comm.rank == slow_rank(os.environ.get("SECRET", ""), comm.size)
    return [SlowDense(32) if slow else Dense(32), ReLU(), Dense(classes)]
