"""Where a rank is: what its watchdog tells the others of it."""

import contextlib
import enum
from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Place(enum.IntEnum):
    """The part of its program that a rank is in."""

    ELSEWHERE = 0
    TRAINING = 1
    """It keeps pace with the others: none lets the others wait for longer than the timeout."""
    UNHURRIED = 2
    """It may let the others wait as long as it takes: it reads, evaluates, or writes to a slow disk."""
    LEFT = 3
    """At the end: it makes no further call."""


class State(NamedTuple):
    """What is told of a rank."""

    begun: int
    """How many collective calls it has begun."""
    ended: int
    """How many of them have ended. If it is one less than `begun`, the rank waits in a call for the others."""
    place: int = Place.ELSEWHERE
    exit_status: int = 0
    """With which it is about to end."""


class Among(enum.IntEnum):
    """Which ranks a collective call makes wait for each other."""

    ALL = 0
    NODE = 1
    """Those of a node."""
    PARTNERS = 2
    """One of each node, with the same number there."""


class Recorder(Protocol):
    """Is told of each collective call when it begins and when it ends."""

    def begin(self, among: Among) -> None:
        """A call begins."""

    def end(self) -> None:
        """The call that began last has ended."""


class Whereabouts:
    """Where this process is. Its main thread writes it, and its watchdog's thread reads it.

    As a context, `of_all`, `of_node` and `of_partners` are each one collective call, among those ranks.
    """

    def __init__(self) -> None:
        self.begun = self.ended = self.exit_status = 0
        self.place = Place.ELSEWHERE
        self.recorder: Recorder | None = None
        """Set while calls are to be recorded."""
        self.of_all, self.of_node, self.of_partners = (_Calls(self, among) for among in Among)

    @contextlib.contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """A block in which this process is at another place."""
        before, self.place = self.place, place
        try:
            yield
        finally:
            self.place = before

    def state(self) -> State:
        """As it is now."""
        return State(self.begun, self.ended, self.place, self.exit_status)


class _Calls:
    """As a context, a collective call among some ranks."""

    def __init__(self, here: Whereabouts, among: Among) -> None:
        self._here, self._among = here, among

    def __enter__(self) -> None:
        here = self._here
        here.begun += 1
        if here.recorder is not None:
            here.recorder.begin(self._among)

    def __exit__(self, *_: object) -> None:
        here = self._here
        if here.recorder is not None:
            here.recorder.end()
        here.ended += 1
