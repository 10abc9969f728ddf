"""All that the samples of a folder say, for people, pictures and other programs."""

import csv
import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddp_numpy.base.errors import InputError
from ddp_numpy.scaling.advice import Adviser
from ddp_numpy.scaling.explain import Explained, explained
from ddp_numpy.scaling.folder import found_in
from ddp_numpy.scaling.plan import Mode, Sweep
from ddp_numpy.scaling.predictions import Compared, compared
from ddp_numpy.scaling.results import Row, rows
from ddp_numpy.scaling.samples import LINES, Sample


class OfMode(NamedTuple):
    """What a sweep says of one way of scaling."""

    mode: Mode
    rows: list[Row]
    explained: list[Explained]
    adviser: Adviser


class OfRank(NamedTuple):
    """How long a rank's steps take outside collective calls."""

    rank: int
    host: str
    seconds: list[float]
    """Quantiles at SHOWN (parts.py): the medians over launches."""


class OfSum(NamedTuple):
    """What a sum over all ranks takes."""

    ranks: int
    hosts: int
    nbytes: int
    seconds: float

    @property
    def bus_bandwidth(self) -> float:
        """Bytes a second, as nccl-tests define it: comparable between numbers of ranks."""
        return 2 * (self.ranks - 1) / self.ranks * self.nbytes / self.seconds


class Findings:
    """Of a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError if it is no sweep's, or has too few samples to say something."""
        self.samples, self.plan = found_in(folder)
        self.sweep = _sweep(self.samples, self.plan, folder)
        found = []
        for mode in self.sweep.modes:
            own, adviser = rows(self.sweep, mode, self.samples), Adviser(self.sweep, mode, self.samples, self.links)
            found.append(OfMode(mode, own, explained(self.sweep, mode, self.samples), adviser))
        self.of_modes = [own for own in found if own.rows]
        if not self.of_modes:
            raise InputError(f"{folder / LINES}: has no round with one process and one rank yet; let the sweep go on")
        self.compared: list[Compared] = compared(folder, self.sweep, self.samples)
        self.of_ranks = _of_ranks(self.samples)
        self.sums = _sums(self.samples)

    @property
    def links(self) -> float | None:
        """Bits a second of those between hosts, if that was given."""
        return self.plan["links"]  # type: ignore[no-any-return]

    @property
    def facts(self) -> dict[str, Any]:
        """Where and how: of a launch with the most ranks."""
        return max(self.samples, key=lambda one: one.point.ranks).facts

    def values(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return {
            "plan": self.plan,
            "facts": self.facts,
            "modes": {
                own.mode: {
                    "rows": [_plain(row) for row in own.rows],
                    "explained": [_plain(one) for one in own.explained],
                    "advice": {one.point.ranks: [_plain(each) for each in own.adviser.of(one.point.ranks)]
                               for one in own.explained},
                }
                for own in self.of_modes
            },
            "ranks": [_plain(one) for one in self.of_ranks],
            "sums": [_plain(one) | {"bus_bandwidth": one.bus_bandwidth} for one in self.sums],
            "predictions": [_plain(one) for one in self.compared],
        }  # fmt: skip

    def table(self) -> str:
        """Times, speedup, efficiency and factors of each number of ranks, as CSV."""
        lines = []
        for own in self.of_modes:
            by_point = {one.point: one for one in own.explained}
            for row in own.rows:
                line: dict[str, Any] = {
                    "mode": own.mode, "kind": row.point.kind, "ranks": row.point.ranks, "hosts": row.hosts,
                    "batch_size": row.point.batch_size, "launches": row.launches, "p95": row.p95,
                    "images_per_second": row.images_per_second,
                }  # fmt: skip
                for name in ("seconds", "speedup", "efficiency"):
                    value = getattr(row, name)
                    line |= {name: value.value, f"{name}_low": value.low, f"{name}_high": value.high}
                if one := by_point.get(row.point):
                    line |= {name: factor.value for name, factor in one.factors.items()} | {"rest": one.rest}
                lines.append(line)
        names = dict.fromkeys(name for line in lines for name in line)
        text = io.StringIO()
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
        return text.getvalue()


def _plain(value: Any) -> Any:
    """Named tuples as dictionaries, all the way down."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(own) for name, own in value._asdict().items()}
    if isinstance(value, dict):
        return {name: _plain(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(own) for own in value]
    return value if isinstance(value, int | float | str | None) else vars(value)  # a Point


def _sweep(samples: Sequence[Sample], plan: dict[str, Any], folder: Path) -> Sweep:
    """What was measured, as the samples show it."""
    if not samples:
        raise InputError(f"{folder / LINES}: has no samples yet; let the sweep go on")
    batch_size: int = plan["training"]["batch-size"]
    points = {one.point for one in samples if one.point.kind == "ranks"}
    ranks = tuple(sorted({point.ranks for point in points}))
    of_modes: dict[Mode, Sweep] = {mode: Sweep((1,), (mode,), batch_size, 1) for mode in ("strong", "weak")}
    modes: tuple[Mode, ...] = tuple(
        mode
        for mode, own in of_modes.items()
        if any(point.ranks > 1 and point.batch_size == own.batch(mode, point.ranks) for point in points)
    )
    repeat = 1 + max(one.repetition for one in samples)
    return Sweep(ranks or (1,), modes or ("strong",), batch_size, repeat, plan["explain"])


def _of_ranks(samples: Sequence[Sample]) -> list[OfRank]:
    """Of the launches with the most ranks, the first of a mode."""
    jobs = [one for one in samples if one.point.kind == "ranks" and one.point.ranks > 1 and one.parts]
    if not jobs:
        return []
    most = max((one.point for one in jobs), key=lambda point: (point.ranks, -point.batch_size))
    own = [one for one in jobs if one.point == most]
    found = []
    for rank, place in enumerate(own[0].facts["ranks_on"]):
        quantiles = zip(*(one.parts["by_rank"][rank] for one in own if one.parts), strict=True)
        found.append(OfRank(rank, place["host"], [statistics.median(each) for each in quantiles]))
    return found


def _sums(samples: Sequence[Sample]) -> list[OfSum]:
    """The medians over launches."""
    found: dict[tuple[int, int, int], list[float]] = {}
    for one in samples:
        for size in one.facts.get("sum_seconds", ()):
            found.setdefault((one.point.ranks, len(one.facts["hosts"]), size["bytes"]), []).append(size["seconds"])
    return [OfSum(*key, statistics.median(seconds)) for key, seconds in sorted(found.items())]
