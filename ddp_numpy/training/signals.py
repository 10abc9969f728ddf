"""Signals that ask for the end of training."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ddp_numpy.training.trainer import Trainer


@contextlib.contextmanager
def stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """While the block lasts, SIGTERM and SIGUSR1 end training at the end of a step.

    Schedulers send them some time before they kill a job.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
