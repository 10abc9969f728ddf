"""python stop_at.py STEP RANK WHAT [options of ddp_numpy.train]: something happens to a rank in the middle of a step.

STEP counts from the first weights, and +STEP from this start; it waits for the checkpoint before it. STEP~ waits for
any checkpoint. WHAT: the names of signals that the rank gets, with commas between, or HANG.
"""

import os
import signal
import sys
import time
from pathlib import Path

from ddp_numpy.cli import run
from ddp_numpy.train import main
from ddp_numpy.training.trainer import Trainer

step, rank, what = sys.argv.pop(1), int(sys.argv.pop(1)), sys.argv.pop(1)
train_step = Trainer.train_step
steps_begun = 0


def wait_for_checkpoint(name: str) -> None:
    """Wait until rank 0 has written a checkpoint with such a name."""
    folder = Path(sys.argv[sys.argv.index("--out") + 1], "checkpoints")
    deadline = time.monotonic() + 60
    while not any(folder.glob(name)):
        assert time.monotonic() < deadline, f"{folder}: no {name}"
        time.sleep(0.01)


def stopping(self, *arguments):  # type: ignore[no-untyped-def]
    global steps_begun
    made = steps_begun if step.startswith("+") else self.steps_made
    steps_begun += 1
    if made == int(step.rstrip("~")) and self.comm.rank == rank:
        if made and step.startswith("+"):
            wait_for_checkpoint(f"step-{self.steps_made:010d}.npz")
        elif step.endswith("~"):
            wait_for_checkpoint("step-*.npz")
        Path("stopped").touch()  # for a test that looks how long the job is still there
        while what == "HANG":
            time.sleep(1)
        for name in what.split(","):
            os.kill(os.getpid(), signal.Signals[name])
    train_step(self, *arguments)


Trainer.train_step = stopping  # type: ignore[method-assign]
run(main)
