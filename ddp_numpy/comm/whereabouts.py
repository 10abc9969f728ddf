"""Where a rank is: what its watchdog tells the others of it."""

import contextlib
import enum
from collections.abc import Iterator
from typing import NamedTuple


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


class Whereabouts:
    """Where this process is. Its main thread writes it, and its watchdog's thread reads it.

    As a context it is one collective call.
    """

    def __init__(self) -> None:
        self.begun = self.ended = self.exit_status = 0
        self.place = Place.ELSEWHERE

    def __enter__(self) -> None:
        self.begun += 1

    def __exit__(self, *_: object) -> None:
        self.ended += 1

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
