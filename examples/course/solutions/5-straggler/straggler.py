"""A solution of exercise 5. See there for what the functions are to do.

A sum over ranks ends when the last rank has come. `began` (R, C) has a row for each rank and a column for each call of
the sum: the moment, in seconds by one clock, at which the rank began the call.
"""

import sys
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ddp_numpy.scaling import trace

Array: TypeAlias = npt.NDArray[Any]


def entry_times(path: Path) -> Array:
    """began (R, C) of a trace that the scaling lab has written.

    After `from ddp_numpy.scaling import trace`, trace.read(path) returns a list of records, one of each rank, and facts
    about the run. A record has `calls` (C, 2): the moments at which the rank began and ended each call.
    """
    records, _ = trace.read(path)
    return np.array([record.calls[:, 0] for record in records])


def waiting(began: Array) -> Array:
    """began (R, C) -> (R, C): how many seconds each rank waits in each call until the last rank has come."""
    return np.asarray(began.max(axis=0) - began)


def straggler(began: Array) -> int | None:
    """began (R, C) -> the rank that came last in more than half of the calls, or None if there is no such rank."""
    ranks, calls = began.shape
    came_last = np.bincount(began.argmax(axis=0), minlength=ranks)
    rank = int(came_last.argmax())
    return rank if came_last[rank] > calls / 2 else None


def lost_seconds(began: Array, rank: int) -> float:
    """began (R, C) -> the mean over calls of how many seconds sooner a call could begin to sum without this rank.

    It is 0 in a call to which another rank came last.
    """
    without = np.delete(began, rank, axis=0)
    return float((began.max(axis=0) - without.max(axis=0)).mean())


if __name__ == "__main__":
    moments = entry_times(Path(sys.argv[1]))
    slow = straggler(moments)
    if slow is None:
        print("no rank came last in more than half of the calls")
    else:
        print(
            f"rank {slow} came last in more than half of the calls: {lost_seconds(moments, slow) * 1e3:.1f} ms a call"
        )
