"""Which rank of this host ended first: mpirun ends the others at once, and tells at best a process number."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

_LOOK_SECONDS = 0.2  # between looks for ranks that have yet to start
_START_SECONDS = 30.0  # after which those that are not here are taken to be elsewhere


class FirstDeath:
    """As a context, in which the ranks of a job are waited for. Where the system has no pidfds, it sees nothing."""

    def __init__(self, processes: Callable[[], list[int]], rank_variable: str, ranks: int) -> None:
        """processes: gives the ids of the job's processes on this host; ranks: how many ranks are to start here."""
        self._processes, self._variable, self._ranks = processes, f"{rank_variable}=".encode(), ranks
        self._first: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="first death", daemon=True)

    def rank(self) -> int | None:
        """The rank that ended before all others; None if none has, or several seem to have at once."""
        return self._first[0] if len(self._first) == 1 else None

    def __enter__(self) -> "FirstDeath":
        if hasattr(os, "pidfd_open"):
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def _watch(self) -> None:
        with contextlib.ExitStack() as stack:
            ends = select.poll()
            found: dict[int, int] = {}  # ranks by the pidfd of their process
            looking_until = time.monotonic() + _START_SECONDS
            while not self._over.is_set() and not self._first:
                if len(found) < self._ranks and time.monotonic() < looking_until:
                    for process, rank in self._new_ranks(found.values()):
                        with contextlib.suppress(OSError):  # it ended just now
                            descriptor = os.pidfd_open(process)
                            stack.callback(os.close, descriptor)
                            ends.register(descriptor, select.POLLIN)
                            found[descriptor] = rank
                self._first = [found[descriptor] for descriptor, _ in ends.poll(1000 * _LOOK_SECONDS)]

    def _new_ranks(self, found: Collection[int]) -> Iterator[tuple[int, int]]:
        for process in self._processes():
            with contextlib.suppress(OSError):
                for setting in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                    value = setting.removeprefix(self._variable)
                    # A rank's own children have its environment too.
                    if value != setting and value.isdigit() and int(value) not in found:
                        yield process, int(value)
