"""The pictures of a report. Nothing is told by colour alone."""

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from ddp_numpy.pages.pictures import COLOURS, HATCHES, MARKERS, Picture, Style
from ddp_numpy.scaling.predictions import Compared
from ddp_numpy.scaling.report.findings import Findings, OfMode, OfRank, OfSum

_MOST_RANKS = 48  # in a picture


def pictures(found: Findings) -> list[Picture]:
    """All for which there is something to show."""
    made = [_scaling(found.of_modes)]
    if any(own.explained for own in found.of_modes):
        made.append(_factors(found.of_modes))
    if found.of_ranks:
        made.append(_ranks(found.of_ranks[:_MOST_RANKS]))
    if found.sums:
        made.append(_sums(found.sums))
    if found.compared:
        made.append(_predictions(found.compared))
    return made


def _scaling(of_modes: Sequence[OfMode]) -> Picture:
    def draw(figure: Figure, style: Style) -> None:
        left, right = figure.subplots(1, 2)
        most = 1
        for number, own in enumerate(of_modes):
            rows = [row for row in own.rows if row.point.kind == "ranks"]
            ranks = [row.point.ranks for row in rows]
            most = max(most, *ranks)
            look: dict[str, Any] = {"color": COLOURS[number], "marker": MARKERS[number], "label": own.mode}
            for axes, medians in ((left, [row.speedup for row in rows]), (right, [row.efficiency for row in rows])):
                values = [one.value for one in medians]
                reach = [[one.value - one.low for one in medians], [one.high - one.value for one in medians]]
                axes.errorbar(ranks, values, reach, capsize=3, linewidth=1.3, markersize=5, **look)
        ticks = sorted({row.point.ranks for own in of_modes for row in own.rows})
        for axes, ideal in ((left, [1, most]), (right, [1, 1])):
            axes.plot([1, most], ideal, color=style.ink, linestyle=":", linewidth=1, label="ideal")
            axes.set_xscale("log", base=2)
            _ticks(axes, ticks)
            axes.set_xlabel("ranks")
            axes.grid(axis="y")
        left.set_yscale("log", base=2)
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.set_ylabel("speedup over one process")
        right.set_ylabel("efficiency")
        right.set_ylim(0, max(1.05, right.get_ylim()[1]))
        right.yaxis.set_major_formatter(PercentFormatter(1))
        left.legend()

    alt = "; ".join(
        f"{own.mode}: " + ", ".join(f"{row.point.who} {row.efficiency.value:.1%}" for row in own.rows)
        for own in of_modes
    )
    return Picture("scaling", "Speedup and efficiency, with the intervals of medians", f"Efficiency: {alt}", draw, 2.7)


def losses(factors: dict[str, float]) -> dict[str, float]:
    """Of an efficiency that is the product of factors, what each takes away, one after the other.

    All together is what is missing to 1. A factor above 1 takes away less than nothing.
    """
    found, left = {}, 1.0
    for name, factor in factors.items():
        found[name], left = left * (1 - factor), left * factor
    return found


def _factors(of_modes: Sequence[OfMode]) -> Picture:
    points = [(own.mode, one) for own in of_modes for one in own.explained]
    several = len({mode for mode, _ in points}) > 1

    def draw(figure: Figure, style: Style) -> None:
        axes = figure.subplots()
        labels = [f"{one.point.ranks}{f', {mode}' if several else ''}" for mode, one in points]
        above, below = [one.efficiency.value for _, one in points], [0.0] * len(points)
        bars = axes.bar(labels, above, color=style.grid, edgecolor=style.ink, linewidth=0.8, label="efficiency")
        shown = [f"{value:.0%}" if value >= 0.06 else "" for value in above]
        axes.bar_label(bars, shown, label_type="center", fontsize=8)
        parts = [
            losses({name: own.value for name, own in one.factors.items()} | {"rest": one.rest}) for _, one in points
        ]
        for number, name in enumerate(parts[0]):
            sizes = [own[name] for own in parts]
            bottoms = [top if size >= 0 else bottom for top, bottom, size in zip(above, below, sizes, strict=True)]
            bars = axes.bar(
                labels, sizes, bottom=bottoms, color=COLOURS[number % len(COLOURS)], edgecolor=style.paper,
                hatch=HATCHES[number % len(HATCHES)], linewidth=0.5, label=name,
            )  # fmt: skip
            shown = [f"{name} {size:.0%}" if abs(size) >= 0.06 else "" for size in sizes]
            texts = axes.bar_label(bars, shown, label_type="center", fontsize=8, color="#000000")
            for text in texts:
                text.set_bbox({"facecolor": "#ffffffcc", "edgecolor": "none", "pad": 1} if text.get_text() else None)
            above = [top + max(size, 0) for top, size in zip(above, sizes, strict=True)]
            below = [bottom + min(size, 0) for bottom, size in zip(below, sizes, strict=True)]
        axes.axhline(0, color=style.ink, linewidth=0.8)
        axes.set_xlim(-0.6, max(len(points), 3) - 0.4)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        axes.set_ylabel("of ideal")
        axes.set_xlabel("ranks")
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside right upper", fontsize=8)

    alt = "; ".join(
        f"{one.point.ranks} ranks, {mode}: " + ", ".join(f"{name} {own.value:.1%}" for name, own in one.factors.items())
        for mode, one in points
    )
    return Picture("factors", "Where efficiency goes; what is below zero is won", alt, draw, 3.4)


def _ranks(of_ranks: Sequence[OfRank]) -> Picture:
    def draw(figure: Figure, style: Style) -> None:
        axes = figure.subplots()
        for place, one in enumerate(of_ranks):
            low, quarter, middle, three_quarters, high = (seconds * 1e3 for seconds in one.seconds)
            axes.plot([low, high], [place, place], color=style.ink, linewidth=1)
            axes.plot([quarter, three_quarters], [place, place], color=COLOURS[0], linewidth=7, solid_capstyle="butt")
            axes.plot([middle], [place], color=style.ink, marker="|", markersize=11, markeredgewidth=1.5)
        axes.set_yticks(range(len(of_ranks)), [f"{one.rank} on {one.host}" for one in of_ranks], fontsize=8)
        axes.set_ylim(len(of_ranks) - 0.4, -0.6)
        axes.set_xlim(0)
        axes.set_ylabel("rank")
        axes.set_xlabel("ms of a step outside collective calls")
        axes.grid(axis="x")

    alt = ", ".join(f"rank {one.rank} {one.seconds[2] * 1e3:.3f} ms" for one in of_ranks)
    title = "Each rank's steps: 90 % of them (line), half of them (bar), the median (mark)"
    return Picture("ranks", title, f"Medians: {alt}", draw, 1.1 + 0.24 * len(of_ranks))


def _sums(sums: Sequence[OfSum]) -> Picture:
    jobs = list(dict.fromkeys((one.ranks, one.hosts) for one in sums))

    def draw(figure: Figure, style: Style) -> None:
        axes = figure.subplots()
        for number, (ranks, hosts) in enumerate(jobs):
            own = [one for one in sums if (one.ranks, one.hosts) == (ranks, hosts)]
            axes.plot(
                [one.nbytes for one in own], [one.bus_bandwidth / 1e9 for one in own],
                color=COLOURS[number % len(COLOURS)], marker=MARKERS[number % len(MARKERS)], markersize=5,
                linewidth=1.3, label=f"{ranks} ranks on {hosts} host{'s' * (hosts > 1)}",
            )  # fmt: skip
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(_bytes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlabel("size of the sum")
        axes.set_ylabel("bus bandwidth, GB/s")
        axes.grid()
        axes.legend()

    alt = ", ".join(f"{one.ranks} ranks {one.nbytes} bytes {one.bus_bandwidth / 1e9:.3g} GB/s" for one in sums)
    return Picture("sums", "Bandwidth of sums over all ranks, as nccl-tests define it", alt, draw, 2.9)


def _predictions(found: Sequence[Compared]) -> Picture:
    def draw(figure: Figure, style: Style) -> None:
        axes = figure.subplots()
        for place, one in enumerate(found):
            asked = one.prediction
            reach = [[(asked.seconds - asked.low) * 1e3], [(asked.high - asked.seconds) * 1e3]]
            axes.errorbar(
                [place], [asked.seconds * 1e3], reach, color=COLOURS[0], marker="o", capsize=5, markersize=6,
                label="predicted" if not place else None,
            )  # fmt: skip
            axes.plot(
                [place], [one.seconds * 1e3], color=COLOURS[1], marker="x", markersize=9, markeredgewidth=2,
                linestyle="none", label="measured" if not place else None,
            )  # fmt: skip
        labels = [f"{one.prediction.ranks}, {one.prediction.mode}" for one in found]
        axes.set_xticks(range(len(found)), labels)
        axes.set_xlim(-0.6, max(len(found), 3) - 0.4)
        axes.set_ylim(0)
        axes.set_ylabel("ms a step")
        axes.set_xlabel("ranks")
        axes.grid(axis="y")
        axes.legend()

    alt = ", ".join(f"{one.prediction.ranks} ranks, error {one.error:+.1%}" for one in found)
    return Picture("predictions", "Predicted, with intervals, and measured afterwards", alt, draw, 2.7)


def _ticks(axes: Axes, values: Sequence[int]) -> None:
    axes.set_xticks(values, [str(value) for value in values])
    axes.xaxis.set_minor_locator(NullLocator())


def _bytes(value: float, _: Any) -> str:
    power = min(3, int(math.log2(max(value, 1)) / 10))
    return f"{value / 1024**power:g} {('B', 'KiB', 'MiB', 'GiB')[power]}"
