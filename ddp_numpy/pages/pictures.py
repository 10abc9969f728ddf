"""Pictures for light and dark pages and for print, drawn by Matplotlib."""

import functools
import io
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

_WIDTH = 6.3  # inches: that of a printed page's text
# Of Okabe and Ito, which people tell apart whatever their colour vision; the first are also apart in grey.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999", "#f0e442", "#882255")
MARKERS, HATCHES = "osD^vP*X", ("", "//", "||", "\\\\", "xx", "--", "/", "++", "\\")


class Style(NamedTuple):
    """The colours of a page."""

    ink: str
    paper: str
    grid: str


LIGHT, DARK = Style("#1c1c1c", "#ffffff", "#d8d8d8"), Style("#e8e8e8", "#16181d", "#3c4048")


class Picture(NamedTuple):
    """A picture, not drawn yet."""

    name: str
    title: str
    alt: str
    """What it shows, for those who don't see it."""
    draw: Callable[[Figure, Style], None]
    height: float
    """Inches."""


@functools.cache  # a page and the files beside it show the same ones
def rendered(picture: Picture, style: Style, kind: str) -> bytes:
    """As SVG or PNG, the same bytes each time."""
    settings: Any = {
        "font.size": 9,
        "axes.edgecolor": style.ink, "axes.labelcolor": style.ink, "text.color": style.ink,
        "xtick.color": style.ink, "ytick.color": style.ink, "axes.facecolor": style.paper,
        "figure.facecolor": style.paper, "grid.color": style.grid, "hatch.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False, "svg.hashsalt": picture.name,
        "svg.fonttype": "none", "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    }  # fmt: skip
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that Matplotlib's font lacks: a browser takes another font
        figure, file = Figure((_WIDTH, picture.height), layout="constrained"), io.BytesIO()
        picture.draw(figure, style)
        metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
        figure.savefig(file, format=kind, dpi=300, metadata=metadata)
    return file.getvalue()
