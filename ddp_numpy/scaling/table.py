"""What a sweep prints for people."""

from collections.abc import Callable, Sequence

from ddp_numpy.scaling.plan import Mode, Sweep
from ddp_numpy.scaling.results import Row
from ddp_numpy.scaling.statistics import Median

_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("ranks", lambda row: "alone" if row.point.alone else str(row.point.ranks)),
    ("hosts", lambda row: str(row.hosts)),
    ("batch", lambda row: str(row.point.batch_size)),
    ("ms a step", lambda row: f"{row.seconds.value * 1e3:.3f}"),
    ("", lambda row: _interval(row.seconds, 1e3, ".3f")),
    ("p95", lambda row: f"{row.p95 * 1e3:.3f}"),
    ("images/s", lambda row: f"{row.images_per_second:,.0f}"),
    ("speedup", lambda row: f"{row.speedup.value:.2f}"),
    ("efficiency", lambda row: f"{row.efficiency.value:.1%}"),
    ("", lambda row: _interval(row.efficiency, 100, ".1f")),
    ("over 1 rank", lambda row: f"{row.over_one_rank:.1%}"),
)


def lines(sweep: Sweep, mode: Mode, found: Sequence[Row], target_loss: float | None = None) -> list[str]:
    """A table of one mode, and how to read it. target_loss: what training was asked to reach, too."""
    columns = list(_COLUMNS)
    if any(row.over_one_host is not None for row in found):
        columns.append(("over 1 host", lambda row: _share(row.over_one_host)))
    if target_loss is not None:
        columns.append((f"s to {target_loss:g}", lambda row: _seconds(row.seconds_to_loss)))
    table = [[name for name, _ in columns], *([cell(row) for _, cell in columns] for row in found)]
    widths = [max(len(row[column]) for row in table) for column in range(len(columns))]
    of = "global batch" if mode == "strong" else "batch of each rank"
    sure = min((row.efficiency.coverage for row in found), default=0.0)
    return [
        f"{mode} scaling, {sweep.batch_size} rows in the {of}",
        *("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table),
        f"[ ]: the median lies in it with a probability of {sure:.1%}. Speedup: over one process without MPI.",
    ]


def _interval(median: Median, times: float, form: str) -> str:
    return f"[{median.low * times:{form}}, {median.high * times:{form}}]"


def _share(efficiency: float | None) -> str:
    return "-" if efficiency is None else f"{efficiency:.1%}"


def _seconds(median: Median | None) -> str:
    return "never" if median is None else f"{median.value:.2f}"
