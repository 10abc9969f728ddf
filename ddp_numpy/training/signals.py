"""Signals that ask for the end of training."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ddp_numpy.training.trainer import Trainer


@contextlib.contextmanager
def stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """While the block lasts, SIGTERM, SIGUSR1 and a first SIGINT end training at the end of a step.

    Schedulers send the first two some time before they kill a job. SIGINT is Ctrl-C: a second one ends it at once.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    numbers = [signal.SIGTERM, signal.SIGUSR1]
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # a job in the background is not to hear Ctrl-C
        numbers.append(signal.SIGINT)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
