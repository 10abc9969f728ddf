"""From samples to speedup and efficiency.

Speedup is how many times as many rows a second are trained on, and efficiency is speedup for each rank. So with a time
T of a step, strong efficiency is T1 / (N TN), as the batch is the same, and weak efficiency is T1 / TN.

Two points are compared launch by launch, within a repetition: both then had the machine in the same state. Of these
ratios the median is taken, never the mean, which has no meaning for ratios.
"""

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple

from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.statistics import Median, median, percentile

_OF_A_STEP: Callable[[Sample], float] = attrgetter("seconds")  # the time of all of a launch, divided by their number


class Row(NamedTuple):
    """What a sweep says of one number of ranks."""

    point: Point
    hosts: int
    launches: int
    seconds: Median
    """Of a step: over launches."""
    p95: float
    """The 95th percentile of the seconds of a step: the median over launches."""
    images_per_second: float
    speedup: Median
    """Over one process without MPI."""
    efficiency: Median
    over_one_rank: float
    """The efficiency, if one rank under MPI is what is compared with."""
    over_one_host: float | None
    """The same, with the most ranks that were on one host; None if no point was on several."""
    seconds_to_loss: Median | None
    """The time to the validation loss that was asked for; None if it was not, or was not reached."""


def rows(sweep: Sweep, mode: Mode, samples: Sequence[Sample]) -> list[Row]:
    """A row of each point of a mode that has samples, one process first."""
    of_points: dict[Point, list[Sample]] = {}
    for sample in samples:
        if sample.point.kind != "beside" and sample.point.batch_size == sweep.batch(mode, sample.point.ranks):
            of_points.setdefault(sample.point, []).append(sample)
    alone, one_rank = (
        of_points.get(point, []) for point in (sweep.alone(sweep.batch_size), Point(1, sweep.batch_size))
    )
    hosts = {point: len(own[0].facts["hosts"]) for point, own in of_points.items()}
    on_one_host = [point for point in of_points if hosts[point] == 1]
    one_host = of_points[max(on_one_host)] if on_one_host and max(hosts.values()) > 1 else []
    found = []
    for point, own in sorted(of_points.items(), key=lambda item: (item[0].ranks, item[0].kind)):
        speedups, over_one_rank, over_one_host = (_speedups(own, base) for base in (alone, one_rank, one_host))
        if not (speedups and over_one_rank):
            continue
        losses = [seconds for sample in own if (seconds := sample.facts.get("seconds_to_loss")) is not None]
        seconds = median([sample.seconds for sample in own])
        found.append(
            Row(
                point,
                hosts[point],
                len(own),
                seconds,
                median([percentile(sample.step_seconds, 0.95) for sample in own]).value,
                point.batch_size / seconds.value,
                median(speedups),
                median(efficiencies(own, alone)),
                median(over_one_rank).value / point.ranks,
                median(over_one_host).value * one_host[0].point.ranks / point.ranks if over_one_host else None,
                median(losses) if len(losses) == len(own) else None,
            )
        )
    return found


def efficiencies(
    samples: Sequence[Sample], base: Sequence[Sample], seconds: Callable[[Sample], float] = _OF_A_STEP
) -> list[float]:
    """For each repetition that both have been launched in, the speedup of samples for each of their ranks.

    seconds: of a step of a launch.
    """
    return [speedup / samples[0].point.ranks for speedup in _speedups(samples, base, seconds)]


def _speedups(
    samples: Sequence[Sample], base: Sequence[Sample], seconds: Callable[[Sample], float] = _OF_A_STEP
) -> list[float]:
    """For each repetition that both have been launched in, how many times as many rows a second there are."""
    rates = {sample.repetition: sample.point.batch_size / seconds(sample) for sample in base}
    return [
        sample.point.batch_size / seconds(sample) / rates[sample.repetition]
        for sample in samples
        if sample.repetition in rates
    ]
