"""What a signal to the launcher means while it has processes to look after."""

import contextlib
import signal
import subprocess
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Signalled(BaseException):
    """A signal that ends the launcher has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Signals:
    """As a context: SIGINT, SIGTERM and SIGHUP end what the launcher waits for, and then the launcher.

    They raise Signalled, but only inside `waiting()`. Elsewhere they are noted, and raised by the next `waiting()` or
    at the end of the context. So no signal comes between the start of a process and the block that ends the process,
    and a second Ctrl-C does not stop the ending half-way.

    SIGUSR1 and SIGUSR2 are passed on to one process.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that has arrived, if one has."""
        self._waiting = False
        self._process: subprocess.Popen[Any] | None = None
        self._early: list[int] = []
        self._before: dict[int, Any] = {}

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """As a context: a signal, now or before, raises Signalled."""
        self._waiting = True
        try:
            if self.number is not None:
                raise Signalled(self.number)
            yield
        finally:
            self._waiting = False

    def pass_on_to(self, process: "subprocess.Popen[Any]") -> None:
        """Send this process the signals SIGUSR1 and SIGUSR2 that the launcher gets, and has got before."""
        self._process = process
        while self._early:
            process.send_signal(self._early.pop(0))

    def __enter__(self) -> "Signals":
        ending = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP: the job is to stay
            ending.append(signal.SIGHUP)
        self._before = {number: signal.signal(number, self._end) for number in ending}
        self._before |= {number: signal.signal(number, self._forward) for number in (signal.SIGUSR1, signal.SIGUSR2)}
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if kind is None and self.number is not None:
            raise Signalled(self.number)

    def _end(self, number: int, _: FrameType | None) -> None:
        if self.number is None:
            self.number = number
        if self._waiting:
            self._waiting = False
            raise Signalled(self.number)

    def _forward(self, number: int, _: FrameType | None) -> None:
        if self._process is None:
            self._early.append(number)
        else:
            self._process.send_signal(number)
