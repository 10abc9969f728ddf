"""python slow_disk.py SECONDS [options of ddp_numpy.train]: rank 0's disk takes so long to write down a checkpoint.

If the environment variable STOP names a signal, rank 1 gets it in the middle of the first epoch.
"""

import os
import signal
import sys
import time

from ddp_numpy.cli import run
from ddp_numpy.comm import is_reporter
from ddp_numpy.train import main
from ddp_numpy.training.trainer import Trainer

seconds, stop = float(sys.argv.pop(1)), os.environ.get("STOP")
fsync, train_step = os.fsync, Trainer.train_step


def slow_fsync(descriptor):  # type: ignore[no-untyped-def]
    if is_reporter(None) and "step-" in os.readlink(f"/proc/self/fd/{descriptor}"):
        time.sleep(seconds)
    fsync(descriptor)


def stopping_step(self, *arguments):  # type: ignore[no-untyped-def]
    if stop and self.steps_made == 5 and self.comm.rank == 1:
        os.kill(os.getpid(), signal.Signals[stop])
    train_step(self, *arguments)


os.fsync = slow_fsync
Trainer.train_step = stopping_step  # type: ignore[method-assign]
run(main)
