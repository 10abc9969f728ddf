"""Exercise 5: find the rank that all others wait for, from the moments at which the ranks come to each sum.

A sum over ranks ends when the last rank has come. `began` (R, C) has a row for each rank and a column for each call of
the sum: the moment, in seconds by one clock, at which the rank began the call.
"""

import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def entry_times(path: Path) -> Array:
    """began (R, C) of a trace that the scaling lab has written.

    After `from ddp_numpy.scaling import trace`, trace.read(path) returns a list of records, one of each rank, and facts
    about the run. A record has `calls` (C, 2): the moments at which the rank began and ended each call.
    """
    raise NotImplementedError("exercise: write entry_times in straggler.py")


def waiting(began: Array) -> Array:
    """began (R, C) -> (R, C): how many seconds each rank waits in each call until the last rank has come."""
    raise NotImplementedError("exercise: write waiting in straggler.py")


def straggler(began: Array) -> int | None:
    """began (R, C) -> the rank that came last in more than half of the calls, or None if there is no such rank."""
    raise NotImplementedError("exercise: write straggler in straggler.py")


def lost_seconds(began: Array, rank: int) -> float:
    """began (R, C) -> the mean over calls of how many seconds sooner a call could begin to sum without this rank.

    It is 0 in a call to which another rank came last.
    """
    raise NotImplementedError("exercise: write lost_seconds in straggler.py")


if __name__ == "__main__":
    moments = entry_times(Path(sys.argv[1]))
    slow = straggler(moments)
    if slow is None:
        print("no rank came last in more than half of the calls")
    else:
        print(
            f"rank {slow} came last in more than half of the calls: {lost_seconds(moments, slow) * 1e3:.1f} ms a call"
        )
