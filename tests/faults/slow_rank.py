"""python slow_rank.py SECONDS [options of ddp_numpy.train]: rank 0 takes so long to read, and the last to evaluate."""

import sys
import time

import ddp_numpy.data.load
from ddp_numpy.cli import run
from ddp_numpy.train import main
from ddp_numpy.training.trainer import Trainer

seconds = float(sys.argv.pop(1))
evaluate, read = Trainer.evaluate, ddp_numpy.data.load.read_idx_split


def slow_read(*arguments):  # type: ignore[no-untyped-def]
    time.sleep(seconds / 2)  # of two files
    return read(*arguments)


def slow_evaluate(self, data):  # type: ignore[no-untyped-def]
    if self.comm.rank == self.comm.size - 1:
        time.sleep(seconds)
    return evaluate(self, data)


ddp_numpy.data.load.read_idx_split = slow_read  # type: ignore[attr-defined]
Trainer.evaluate = slow_evaluate  # type: ignore[method-assign]
run(main)
