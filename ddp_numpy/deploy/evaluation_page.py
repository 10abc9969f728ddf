"""An evaluation as a page, with pictures: which classes are taken for which, calibration, and the worst mistakes."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from ddp_numpy.deploy.evaluation import Evaluation, Mistake, mean_of
from ddp_numpy.pages.document import Block, Heading, Paragraph, Table, as_html
from ddp_numpy.pages.pictures import COLOURS, Picture, Style

_MOST_CLASSES = 20  # whose counts are written into the picture, and make a table
_MOST_PAIRS = 12
_MOST_POINTS = 5000  # of a scatter plot
_MOST_VALUES = 6  # of a row
_LEAST_SIDE = 7  # of rows that are shown as images
_LONGEST_NAME = 16
_COLUMNS = 8  # of the sheet of mistakes


def page(found: Evaluation, about: str, summary: Sequence[str], columns: Sequence[str]) -> str:
    """HTML that needs no other file. about: what was evaluated; columns: the features' names, if they have some."""
    lines = [f"{about}: {len(found):,} rows", *summary]
    return as_html("How good the network is", list(_blocks(found, lines, columns)))


def _blocks(found: Evaluation, lines: Sequence[str], columns: Sequence[str]) -> Iterator[Block]:
    for line in lines:
        yield Paragraph(line)
    yield from _classes(found) if found.names else _numbers(found)
    if found.mistakes:
        yield Heading("The worst mistakes")
        side = math.isqrt(found.mistakes[0].shown.size)
        if side >= _LEAST_SIDE and side**2 == found.mistakes[0].shown.size:
            yield _sheet(found, side)
        else:
            yield _table_of(found, columns)


def _classes(found: Evaluation) -> Iterator[Block]:
    yield Heading("Classes")
    cells = [
        [one.name, *(f"{value:.1%}" for value in one[1:4]), f"{one.rows:,}"]
        for one in (*found.classes, mean_of(found.classes))
    ]
    yield Table(["class", "precision", "recall", "F1", "rows"], cells)
    yield Heading("Which are taken for which")
    if len(found.names) <= _MOST_CLASSES:
        counts = [[name, *map(str, row)] for name, row in zip(found.names, found.confusion.tolist(), strict=True)]
        yield Table(["is, taken for", *found.names], counts)
    yield _confusion(found)
    if pairs := found.confused(_MOST_PAIRS):
        yield Table(["is", "taken for", "rows"], [[a, b, f"{rows:,}"] for a, b, rows in pairs])
    yield Heading("Confidence")
    yield Paragraph(
        f"Confidence and accuracy are {found.calibration_error:.2%} apart, on average over rows (expected calibration "
        "error). Of a calibrated model's predictions with a confidence of 80 %, eight in ten are right."
    )
    yield _calibration(found)


def _numbers(found: Evaluation) -> Iterator[Block]:
    yield Heading("Predictions")

    def draw(figure: Figure, style: Style) -> None:
        axes = figure.subplots()
        some = slice(None, None, -(-len(found) // _MOST_POINTS))
        axes.plot(found.labels[some], found.predicted[some], ".", color=COLOURS[0], markersize=3, alpha=0.5)
        edges = [found.labels.min(), found.labels.max()]
        axes.plot(edges, edges, color=style.ink, linestyle=":", linewidth=1)
        axes.set_xlabel("is")
        axes.set_ylabel("predicted")
        axes.grid()

    alt = f"R² {found.r2:.4f}, root of the mean squared error {found.rmse:.5g}"
    yield Picture("predictions", "What was predicted of rows, and what is so", alt, draw, 3.4)


def _confusion(found: Evaluation) -> Picture:
    def draw(figure: Figure, style: Style) -> None:
        axes, k = figure.subplots(), len(found.names)
        shares = found.confusion / np.maximum(found.confusion.sum(axis=1, keepdims=True), 1)
        shades = LinearSegmentedColormap.from_list("shades", [style.paper, COLOURS[0]])
        image = axes.imshow(shares, cmap=shades, norm=PowerNorm(0.5, 0, 1))  # so that a few percent are seen
        figure.colorbar(image, ax=axes, format=PercentFormatter(1), label="of the rows of a class")
        axes.set_xlabel("taken for")
        axes.set_ylabel("is")
        if k <= _MOST_CLASSES:
            names = list(map(_short, found.names))
            axes.set_xticks(range(k), names, rotation=0 if max(map(len, names)) < 4 else 90)
            axes.set_yticks(range(k), names)
            for (row, column), count in np.ndenumerate(found.confusion):
                if count:
                    colour = "#ffffff" if shares[row, column] > 0.25 else style.ink
                    axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=colour)

    alt = "; ".join(f"{rows} of {a} taken for {b}" for a, b, rows in found.confused(_MOST_PAIRS)) or "no mistake"
    return Picture("confusion", "Rows of each class, by the class they were taken for", alt, draw, 4.2)


def _calibration(found: Evaluation) -> Picture:
    def draw(figure: Figure, style: Style) -> None:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        means = [one.confidence for one in found.calibration]
        above.plot([0, 1], [0, 1], color=style.ink, linestyle=":", linewidth=1, label="calibrated")
        above.plot(means, [one.accuracy for one in found.calibration], color=COLOURS[0], marker="o", label="the model")
        above.set_ylabel("accuracy")
        above.yaxis.set_major_formatter(PercentFormatter(1))
        above.set_ylim(-0.02, 1.02)
        above.legend()
        above.grid()
        below.bar(means, [one.rows for one in found.calibration], 0.04, color=COLOURS[0])
        below.set_yscale("log")
        below.set_ylabel("rows")
        below.set_xlabel("confidence")
        below.xaxis.set_major_formatter(PercentFormatter(1))
        below.set_xlim(-0.02, 1.02)

    alt = ", ".join(f"confidence {one.confidence:.1%} accuracy {one.accuracy:.1%}" for one in found.calibration)
    return Picture("calibration", "How often predictions are right, by their confidence", alt, draw, 3.6)


def _sheet(found: Evaluation, side: int) -> Picture:
    lines = -(-len(found.mistakes) // _COLUMNS)

    def draw(figure: Figure, style: Style) -> None:
        for axes in (grid := figure.subplots(lines, _COLUMNS, squeeze=False)).flat:
            axes.set_axis_off()
        for axes, one in zip(grid.flat, found.mistakes, strict=False):
            axes.imshow(one.shown.reshape(side, side).astype(float), cmap="gray")
            axes.set_title(f"{_said(found, one)}\nrow {one.row:,}", fontsize=6.5)

    alt = "; ".join(f"row {one.row}: {_said(found, one)}" for one in found.mistakes)
    return Picture("mistakes", "What it is, and what it was taken for with which confidence", alt, draw, 1.05 * lines)


def _said(found: Evaluation, one: Mistake) -> str:
    return f"{_short(found.names[one.label])} → {_short(found.names[one.predicted])}, {one.confidence:.0%}"


def _short(name: str) -> str:
    """A class's name in a picture, where Matplotlib would take what is between two dollar signs for mathematics."""
    cut = name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
    return cut.replace("$", r"\$")


def _table_of(found: Evaluation, columns: Sequence[str]) -> Table:
    shown = min(_MOST_VALUES, found.mistakes[0].shown.size)
    values = list(columns[:shown]) or [str(number) for number in range(1, shown + 1)]
    if found.names:
        names = ["row", "is", "taken for", "confidence", *values]
        told = [[found.names[m.label], found.names[m.predicted], f"{m.confidence:.1%}"] for m in found.mistakes]
    else:
        names = ["row", "is", "predicted", *values]
        told = [[f"{m.label:.6g}", f"{m.predicted:.6g}"] for m in found.mistakes]
    return Table(
        names,
        [
            [f"{one.row:,}", *own, *map(_cell, one.shown[:shown].tolist())]
            for one, own in zip(found.mistakes, told, strict=True)
        ],
    )


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
