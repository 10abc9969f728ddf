"""python stop_at.py STEP RANK SIGNAL [options of ddp_numpy.train]: a rank gets a signal in the middle of a step.

STEP counts from the first weights; a run that starts behind it is left alone.
"""

import os
import signal
import sys

from ddp_numpy.cli import run
from ddp_numpy.train import main
from ddp_numpy.trainer import Trainer

step, rank, name = int(sys.argv.pop(1)), int(sys.argv.pop(1)), sys.argv.pop(1)
train_step = Trainer.train_step


def stopping(self, *arguments):  # type: ignore[no-untyped-def]
    if self.steps_made == step and self.comm.rank == rank:
        os.kill(os.getpid(), signal.Signals[name])
    train_step(self, *arguments)


Trainer.train_step = stopping  # type: ignore[method-assign]
run(main)
