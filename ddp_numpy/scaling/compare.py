"""Whether efficiency fell since another sweep: for continuous integration, so without crying wolf.

An efficiency is a ratio of two launches of the same round, so what makes a machine slower for a while cancels out. What
disturbs single steps makes them longer and never shorter, so the first quartile of a launch's steps counts. Of a point,
the efficiencies of all rounds of one sweep are compared with those of the other. It fell if two things are so: the
typical ratio, the median over all pairs (Hodges and Lehmann 1963), is lower than is allowed; and so few pairs in which
the later value is the higher one would hardly come about by chance (Wilcoxon 1945, with exact probabilities).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ddp_numpy.base import schema
from ddp_numpy.base.errors import InputError
from ddp_numpy.scaling.json_file import JsonFormat
from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.results import efficiencies
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.statistics import percentile

EFFICIENCY = "efficiency.json"
_CHANCE = 0.05  # of crying wolf, at any of the points
_POINT: schema.Schema = {
    "mode": schema.OneOf("strong", "weak"),
    "ranks": schema.Whole(1),
    "batch_size": schema.Whole(1),
    "efficiencies": [schema.Real(0, math.inf)],
}
_FORMAT = JsonFormat("ddp_numpy efficiency 1", {"points": [_POINT]}, "take one that this version wrote")

Key = tuple[Mode, int, int]
"""Mode, ranks and global batch."""


class Change(NamedTuple):
    """Of the efficiency of a point."""

    mode: Mode
    ranks: int
    before: float
    now: float
    """Medians."""
    ratio: float
    """The typical one of now over before."""
    chance: float
    """How probable values so low, or lower, are by chance."""
    fell: bool


def measured(sweep: Sweep, samples: Sequence[Sample]) -> dict[Key, list[float]]:
    """The efficiencies of all rounds, of each point with several ranks."""
    found: dict[Key, list[float]] = {}
    alone = [one for one in samples if one.point == sweep.alone(sweep.batch_size)]
    for mode in sweep.modes:
        for ranks in sweep.ranks:
            own = [one for one in samples if one.point == Point(ranks, sweep.batch(mode, ranks))]
            if ranks > 1 and (values := efficiencies(own, alone, first_quartile) if own else []):
                found[mode, ranks, own[0].point.batch_size] = values
    return found


def first_quartile(sample: Sample) -> float:
    """The seconds that three of four steps take at least."""
    return percentile(sample.step_seconds, 0.25)


def keep_efficiencies(folder: Path, found: Mapping[Key, Sequence[float]]) -> None:
    """Write them to a file, for a later sweep. Raises InputError if that can't be done."""
    points = [
        {"mode": mode, "ranks": ranks, "batch_size": batch_size, "efficiencies": list(values)}
        for (mode, ranks, batch_size), values in found.items()
    ]
    _FORMAT.write(folder / EFFICIENCY, points=points)


def read(path: Path) -> dict[Key, list[float]]:
    """What `keep_efficiencies` wrote. Raises InputError for a file that is damaged, or of another version."""
    points = _FORMAT.read(path)["points"]
    return {(one["mode"], one["ranks"], one["batch_size"]): one["efficiencies"] for one in points}


def changes(before: Mapping[Key, Sequence[float]], now: Mapping[Key, Sequence[float]], allowed: float) -> list[Change]:
    """Of all points that both have. allowed: the share that may be lost. Raises InputError if there is none."""
    common = [key for key in now if before.get(key)]
    if not common:
        raise InputError("--compare: the sweeps have no number of ranks with the same batch in common")
    found, enough = [], _CHANCE / len(common)
    for mode, ranks, batch_size in common:
        old, new = before[mode, ranks, batch_size], now[mode, ranks, batch_size]
        if 1 / math.comb(len(old) + len(new), len(new)) > enough:
            raise InputError(f"--compare: {len(old)} and {len(new)} launches are too few to tell; raise --repeat")
        ratio = statistics.median(one / other for one in new for other in old)
        chance = chance_of_lower(new, old)
        fell = ratio < 1 - allowed and chance <= enough
        found.append(Change(mode, ranks, statistics.median(old), statistics.median(new), ratio, chance, fell))
    return found


def chance_of_lower(values: Sequence[float], others: Sequence[float]) -> float:
    """How probable it is that so few pairs, or fewer, have the value above the other, if both are drawn alike.

    A tie counts as above, so that equal values don't count as lower.
    """
    above = sum(value >= other for value in values for other in others)
    ways = sum(_ways(len(values), len(others), count) for count in range(above + 1))
    return ways / math.comb(len(values) + len(others), len(values))


@cache
def _ways(values: int, others: int, above: int) -> int:
    """In how many orders of so many values and others so many pairs have the value above the other."""
    if above < 0 or not (values and others):
        return int(above == 0)
    return _ways(values - 1, others, above - others) + _ways(values, others - 1, above)
