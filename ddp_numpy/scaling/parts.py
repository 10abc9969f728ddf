"""Where the time of a step goes, from what all ranks of a launch have recorded.

A rank's step is computing, the update, and collective calls. Of a call, it waits until the last rank that it
waits for has come, and the rest is moving. That is found in two ways: from the moments at which the ranks begin the
call, by clocks that were compared; and in some steps from a barrier before it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ddp_numpy.comm.whereabouts import Among
from ddp_numpy.nn import Array
from ddp_numpy.scaling.recording import Record
from ddp_numpy.scaling.variability import LEVELS

USEFUL = ("computing", "update")
"""The parts outside collective calls."""
SHOWN = (0.05, 0.25, 0.5, 0.75, 0.95)
"""The quantiles of a rank's steps that a picture shows."""


def parts_of(records: Sequence[Record], hosts: Sequence[str]) -> dict[str, Any]:
    """The mean seconds of a step on each rank, by part, as lists that JSON can hold.

    records, hosts: of each rank. Useful seconds are all but those of collective calls: `slowest` is the mean over steps
    of the most of a rank, `noise` has the quantiles, at LEVELS, of those of a step over the rank's mean, and `by_rank`
    those of each rank's steps, in seconds, at SHOWN.
    `impossible` counts calls that a rank left before the last one came, by the clocks.
    """
    began, ended = (np.array([record.calls[:, part] for record in records]) for part in (0, -1))
    last, calls = last_came(began, records[0].among, hosts), ended - began
    waiting = np.clip(np.minimum(ended, last) - began, 0, None)
    found = _means(records, waiting)
    in_calls = np.array([_by_step(record, one) for record, one in zip(records, calls, strict=True)])
    outside = np.array([record.steps[:, 1] - record.steps[:, 0] for record in records]) - in_calls
    found["slowest"] = float(outside.max(axis=0).mean())
    found["noise"] = np.quantile(outside / outside.mean(axis=1, keepdims=True), LEVELS).tolist()
    found["by_rank"] = np.quantile(outside, SHOWN, axis=1).T.tolist()
    found["steps"], found["calls"] = len(outside[0]), len(records[0].among)
    found["impossible"] = int((ended < last)[:, records[0].among == Among.ALL].any(axis=0).sum())
    return found


def useful(parts: Mapping[str, Any]) -> list[float]:
    """Of what `parts_of` returned, the seconds of each rank outside collective calls."""
    return [sum(own) for own in zip(*(parts[name] for name in USEFUL), strict=True)]


def alike(parts: Mapping[str, Any], rank: int) -> list[int]:
    """The ranks that have as many rows as this one, itself included."""
    rows = parts["rows"]
    return [other for other in range(len(rows)) if rows[other] == rows[rank]]


def met_parts_of(records: Sequence[Record], meeting: float) -> dict[str, Any]:
    """The same of steps in which the ranks met before each call, which takes so many seconds if all are there."""
    waiting = np.array([record.calls[:, 1] - record.calls[:, 0] for record in records])
    return _means(records, np.clip(waiting - meeting, 0, None))


def _means(records: Sequence[Record], waiting: Array) -> dict[str, Any]:
    """Of each rank the means over steps. waiting (ranks, calls): of the seconds of each call."""
    found: dict[str, list[float]] = {name: [] for name in ("seconds", "computing", "update", "waiting", "moving")}
    for record, waited in zip(records, waiting, strict=True):
        step = float(np.mean(record.steps[:, 1] - record.steps[:, 0]))
        calls = float((record.calls[:, -1] - record.calls[:, 0]).sum()) / len(record.steps)
        wait = float(waited.sum()) / len(record.steps)
        update = float(record.update.mean())
        values = (step, step - calls - update, update, wait, calls - wait)
        for name, value in zip(found, values, strict=True):
            found[name].append(value)
    return found


def _by_step(record: Record, values: Array) -> Array:
    """(c,) -> (s,)"""
    return np.bincount(record.step_of_call, values, len(record.steps))


def last_came(began: Array, among: Array, hosts: Sequence[str]) -> Array:
    """When the last of those ranks began each call that each rank waits for in it: (ranks, calls)."""
    numbers = [list(hosts[:rank]).count(host) for rank, host in enumerate(hosts)]  # within the rank's node
    teams: dict[int, Sequence[Any]] = {Among.ALL: [0] * len(hosts), Among.NODE: hosts, Among.PARTNERS: numbers}
    last = np.empty_like(began)
    for kind, team_of in teams.items():
        calls = np.flatnonzero(among == kind)
        for team in set(team_of):
            ranks = np.array([rank for rank, other in enumerate(team_of) if other == team])
            last[np.ix_(ranks, calls)] = began[np.ix_(ranks, calls)].max(axis=0)
    return last
