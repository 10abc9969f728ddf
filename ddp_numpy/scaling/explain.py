"""Efficiency as a product of factors, each measured by itself in the same sweep.

With T the seconds of a step of one process, b the rows of a batch, N the ranks and u the seconds of an update:

- granularity: T(b) / (N T(b/N)), as products of fewer rows are slower. Of this, `update` is what comes of each rank
  making the whole update, however few its rows are.
- machine: T(b/N) over the same while N such processes work beside each other: what cores lose by working together.
- job: that over the seconds of a rank outside collective calls, its useful ones. It does more than a process of its
  own, or less if ranks share an update.
- balance: the mean over ranks of these, over those of the slowest rank. Serialisation: those over the mean of the
  slowest in each step, whichever rank it was. Waiting and moving: what the calls add. These are the metrics of the POP
  project (co-design.pop-coe.eu/metrics), whose transfer efficiency is the last two where all ranks meet in each step.

The rest is the efficiency over the product of all: recording has a price, and medians don't multiply exactly.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

from ddp_numpy.scaling.parts import USEFUL, alike, useful
from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.results import efficiencies
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.statistics import Median, median

_STRAGGLES = 1.05  # times as long as ranks with as many rows


class Straggler(NamedTuple):
    """A rank that is slower than others with as many rows."""

    rank: int
    host: str
    part: str
    """The part of a step in which it loses most."""
    times: float
    """As long as others, outside collective calls."""


class Crowded(NamedTuple):
    """A host with more ranks than cores."""

    host: str
    ranks: int
    cores: int


class Split(NamedTuple):
    """The mean seconds of a step that a rank is in collective calls."""

    waiting: float
    moving: float


class Explained(NamedTuple):
    """Why a point has its efficiency."""

    point: Point
    efficiency: Median
    factors: dict[str, Median]
    """By name, and 1 is no loss."""
    rest: float
    """The efficiency over the product of the factors."""
    by_clocks: Split
    by_barriers: Split
    clock_error: float
    """Of the ranks' clocks against rank 0's, at most."""
    impossible: int
    """Calls that a rank left before the last one came, by the clocks."""
    calls: int
    """How many were recorded."""
    price: Median
    """How many times as long a step takes while it is recorded."""
    stragglers: list[Straggler]
    crowded: list[Crowded]


def explained(sweep: Sweep, mode: Mode, samples: Sequence[Sample]) -> list[Explained]:
    """Each number of ranks above one whose samples are there, all in the same repetition at least once."""
    of_launches = {(sample.repetition, sample.point): sample for sample in samples if sample.parts is not None}
    found = []
    for ranks in sweep.ranks:
        point = Point(ranks, sweep.batch(mode, ranks))
        beside = sweep.beside(point)
        needed = (point, sweep.alone(sweep.batch_size), sweep.alone(beside.process_batch_size), beside)
        by_repetition = [[of_launches.get((number, other)) for other in needed] for number in range(sweep.repeat)]
        launches = [[sample for sample in own if sample] for own in by_repetition if all(own)]
        if ranks > 1 and launches:
            found.append(_explained(point, launches))
    return found


def _explained(point: Point, launches: Sequence[Sequence[Sample]]) -> Explained:
    all_factors = [factors(*own) for own in launches]
    medians = {name: median([own[name] for own in all_factors]) for name in all_factors[0]}
    efficiency = median(efficiencies([own[0] for own in launches], [own[1] for own in launches]))
    parts: list[dict[str, Any]] = [own[0].parts or {} for own in launches]
    return Explained(
        point,
        efficiency,
        medians,
        efficiency.value / math.prod(factor.value for factor in medians.values()),
        _split(parts),
        _split([own["met"] for own in parts]),
        max(own["clock_error"] for own in parts),
        sum(own["impossible"] for own in parts),
        sum(own["calls"] for own in parts),
        median([price for own in parts for price in own["price"]]),
        _stragglers([own[0] for own in launches]),
        _crowded(launches[0][0].facts["ranks_on"]),
    )


def factors(job: Sample, base: Sample, share: Sample, beside: Sample) -> dict[str, float]:
    """The factors of a job's efficiency, by name.

    base, share: one process with the base's batch, and with the rows of one of the job's ranks. beside: as many such
    processes beside each other.
    """
    parts, ranks = job.parts, job.point.ranks
    assert parts is not None
    assert share.parts is not None
    assert beside.parts is not None
    times = job.point.batch_size / base.point.batch_size  # as many rows: 1 if scaling is strong
    update = share.parts["update"][0]
    rows = share.seconds - update
    both = ranks * rows + times * update
    outside = useful(parts)
    mean, most = statistics.mean(outside), max(outside)
    apart, whole = statistics.mean(beside.parts["seconds"]), statistics.mean(parts["seconds"])
    moving = statistics.mean(parts["moving"])
    return {
        "update": both / (ranks * share.seconds),
        "granularity": times * base.seconds / both,
        "machine": share.seconds / apart,
        "job": apart / mean,
        "balance": mean / most,
        "serialisation": most / parts["slowest"],
        "waiting": parts["slowest"] / (whole - moving),
        "moving": (whole - moving) / whole,
    }


def _split(parts: Sequence[dict[str, Any]]) -> Split:
    """The medians over launches."""
    waiting, moving = (statistics.median(statistics.mean(own[name]) for own in parts) for name in ("waiting", "moving"))
    return Split(waiting, moving)


def _stragglers(launches: Sequence[Sample]) -> list[Straggler]:
    """Ranks that are slow in more than half of the launches, the slowest first."""
    found = []
    parts = [own.parts or {} for own in launches]
    for rank, place in enumerate(launches[0].facts["ranks_on"]):
        excess, all_times = dict.fromkeys(USEFUL, 0.0), []
        for own in parts:
            equals = alike(own, rank)
            usual = {name: statistics.median_low([own[name][other] for other in equals]) for name in USEFUL}
            for name in USEFUL:
                excess[name] += own[name][rank] - usual[name]
            outside = useful(own)
            all_times.append(outside[rank] / statistics.median_low([outside[other] for other in equals]))
        times = statistics.median(all_times)
        if times > _STRAGGLES:
            found.append(Straggler(rank, place["host"], max(excess, key=lambda name: excess[name]), times))
    return sorted(found, key=lambda straggler: -straggler.times)


def _crowded(ranks_on: Sequence[dict[str, Any]]) -> list[Crowded]:
    """Hosts whose ranks have to take turns."""
    found = []
    for host in dict.fromkeys(place["host"] for place in ranks_on):
        cpus = [place["cpus"] for place in ranks_on if place["host"] == host]
        if len(cpus) > len(cores := set().union(*cpus)):
            found.append(Crowded(host, len(cpus), len(cores)))
    return found
