"""What a sweep prints for people."""

from collections.abc import Callable, Sequence

from ddp_numpy.base.messages import aligned
from ddp_numpy.scaling.advice import Adviser
from ddp_numpy.scaling.compare import Change
from ddp_numpy.scaling.explain import Explained
from ddp_numpy.scaling.failures import daly, young
from ddp_numpy.scaling.fit import LAWS
from ddp_numpy.scaling.plan import Mode, Sweep
from ddp_numpy.scaling.predictions import Compared, Outlook
from ddp_numpy.scaling.results import Row
from ddp_numpy.scaling.simulation import Outcome, Simulating
from ddp_numpy.scaling.statistics import Median

_COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("ranks", lambda row: "alone" if row.point.kind == "alone" else str(row.point.ranks)),
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

_A_LOSS = 0.98  # a factor that is larger is not worth a word
_WHY = {
    "update": "most is lost as each rank makes the whole update",
    "granularity": "most is lost as products of fewer rows are slower",
    "machine": "most is lost as cores that work at the same time are slower than one alone",
    "job": "most is lost in what a rank of a job does that a process of its own does not",
    "balance": "most is lost as one rank does more than others, which wait for it",
    "serialisation": "most is lost as now this rank and now that one is slow, and the others wait for it",
    "waiting": "most is lost as ranks wait for each other",
    "moving": "most is lost while numbers move between ranks",
}
_HELP = {
    "update": "A larger --batch-size would help, and so may --exchange factors, with which ranks share the update.",
    "granularity": "A larger --batch-size would help.",
    "machine": "Fewer ranks on a host would help, or --bind core if there are cores enough.",
    "job": "Another --exchange may help.",
    "balance": "A --batch-size that all ranks can share evenly would help, or a host that is as fast as the others.",
    "serialisation": "Nothing else should run on the hosts; --bind core may help.",
    "waiting": "Nothing else should run on the hosts; fewer ranks on a host, or --bind core, may help.",
    "moving": "A larger --batch-size or a faster network would help, and so may --exchange factors.",
}


def lines(sweep: Sweep, mode: Mode, found: Sequence[Row], target_loss: float | None = None) -> list[str]:
    """A table of one mode, and how to read it. target_loss: what training was asked to reach, too."""
    return [heading(sweep, mode), *aligned(cells_of_rows(found, target_loss)), note(found)]


def heading(sweep: Sweep, mode: Mode) -> str:
    """Of a table of one mode."""
    of = "global batch" if mode == "strong" else "batch of each rank"
    return f"{mode} scaling, {sweep.batch_size} rows in the {of}"


def note(found: Sequence[Row]) -> str:
    """How to read a table of rows."""
    sure = min((row.efficiency.coverage for row in found), default=0.0)
    return f"[ ]: the median lies in it with a probability of {sure:.1%}. Speedup: over one process without MPI."


def cells_of_rows(found: Sequence[Row], target_loss: float | None = None) -> list[list[str]]:
    """Names of columns, and a line for each row."""
    columns = list(_COLUMNS)
    if any(row.over_one_host is not None for row in found):
        columns.append(("over 1 host", lambda row: _share(row.over_one_host)))
    if target_loss is not None:
        columns.append((f"s to {target_loss:g}", lambda row: _seconds(row.seconds_to_loss)))
    return [[name for name, _ in columns], *([cell(row) for _, cell in columns] for row in found)]


def explanation(found: Sequence[Explained], adviser: Adviser) -> list[str]:
    """Why the efficiency of each number of ranks is what it is: its factors, and sentences."""
    said = [line for own in found for line in sentences(own, adviser)]
    return ["efficiency is the product of", *aligned(cells_of_factors(found)), *said]


def cells_of_factors(found: Sequence[Explained]) -> list[list[str]]:
    """Names of columns, and a line for each number of ranks."""
    cells = [["ranks", "efficiency", *found[0].factors, "rest"]]
    for own in found:
        shares = [own.efficiency.value, *(factor.value for factor in own.factors.values()), own.rest]
        cells.append([str(own.point.ranks), *(f"{share:.1%}" for share in shares)])
    return cells


def sentences(own: Explained, adviser: Adviser) -> list[str]:
    """What holds a number of ranks back, what would help, and how sure that is."""
    ranks, efficiency = own.point.ranks, own.efficiency.value
    worst, factor = min(own.factors.items(), key=lambda item: item[1].value)
    why = f"{_WHY[worst]}; without that, efficiency would be {efficiency / factor.value:.1%}. {_HELP[worst]}"
    said = [f"{ranks} ranks: {why if factor.value < _A_LOSS else 'nothing holds them back'}"]
    if advice := adviser.of(ranks):
        gains = (f"{efficiency * times:.1%} {change}" for change, times in advice)
        said.append(f"Predicted efficiency: {', '.join(gains)}.")
    said += [
        f"rank {rank} on {host} takes {times:.2f} times as long as ranks with as many rows, most of it in {part}."
        for rank, host, part, times in own.stragglers
    ]
    said += [
        f"{host} has {ranks} ranks for {cores} core{'s' * (cores > 1)}, so they take turns."
        for host, ranks, cores in own.crowded
    ]
    clocks, barriers = (f"{_us(split.waiting)} and {_us(split.moving)}" for split in (own.by_clocks, own.by_barriers))
    price, low, high, _ = (100 * (value - 1) for value in own.price)
    said += [
        f"A step waits and moves for {clocks} by clocks, {barriers} by barriers.",
        f"Clocks are off by {_us(own.clock_error)} at most, and show {own.impossible} of {own.calls:,} calls in an "
        "impossible order.",
        f"Recording makes a step {price:.1f} % longer [{low:.1f}, {high:.1f}].",
    ]
    return said


def outlook(found: Outlook) -> list[str]:
    """What is predicted of more ranks."""
    asked = found.asked
    table = [["ranks", "hosts", "batch", "ms a step", "", "efficiency", "times as many", *LAWS]]
    for ranks in asked.ranks:
        one = found.of(ranks)
        table.append([
            str(ranks), str(one.hosts), str(one.batch_size), f"{one.seconds * 1e3:.3f}",
            f"[{one.low * 1e3:.3f}, {one.high * 1e3:.3f}]", f"{one.efficiency:.1%}", f"{one.further:g}",
            *(f"{seconds * 1e3:.3f}" for seconds in one.by_laws.values()),
        ])  # fmt: skip
    said = ["predicted, from fewer ranks", *aligned(table)]
    if found.is_a_bound:
        said.append("At least this long: how fast hosts copy is not seen on the slow links, and counts on fast ones.")
    most = found.most_ranks()
    said.append(
        f"Efficiency stays at {asked.efficiency:.0%} and more up to {most} rank{'s' * (most > 1)}."
        if most
        else f"Efficiency is below {asked.efficiency:.0%} on one host already."
    )
    if asked.within is not None:
        fewest = found.fewest_ranks()
        said.append(
            f"No number of ranks trains {asked.epochs} epochs in {asked.within:g} s."
            if fewest is None
            else f"The fewest ranks that train {asked.epochs} epochs in {asked.within:g} s are {fewest}: in "
            f"{found.training_seconds(fewest):.0f} s, {fewest * found.training_seconds(fewest) / 3600:.2f} core hours."
        )
    return said


def simulation(asked: Simulating, found: Sequence[Outcome]) -> list[str]:
    """What was simulated."""
    table = [["ranks", "hosts", "batch", "ms a step", "p95", "efficiency", "computing", "waiting", "moving"]]
    for job, steps, efficiency, _, _ in found:
        parts = (steps.computing, steps.waiting, steps.seconds - steps.computing - steps.waiting)
        table.append([
            str(job.ranks), str(job.hosts), str(job.batch_size), f"{steps.seconds * 1e3:.3f}",
            f"{steps.p95 * 1e3:.3f}", f"{efficiency:.1%}", *(f"{part / steps.seconds:.1%}" for part in parts),
        ])  # fmt: skip
    said = [f"simulated, {asked.steps} steps each, on {asked.topology(found[-1].job.hosts)}", *aligned(table)]
    for job, _, _, failures, best in found:
        if failures is not None and best is not None:
            said.append(
                f"{job.ranks} ranks: a failure every {time_of(failures.between)}; a checkpoint every "
                f"{time_of(best.seconds)} is best, with which {best.trains:.1%} of the time trains (Young: every "
                f"{time_of(young(failures))}, Daly: {time_of(daly(failures))})."
            )
    return said


def comparison(found: Sequence[Compared]) -> list[str]:
    """How true predictions were."""
    return ["predicted and then measured, ms a step", *aligned(cells_of_predictions(found)), verdict(found)]


def verdict(found: Sequence[Compared]) -> str:
    """On predictions."""
    worst = max((one.error for one in found), key=abs)
    held = sum(one.held for one in found)
    return f"The largest error is {worst:+.1%}; {held} of {len(found)} lie in their interval."


def cells_of_predictions(found: Sequence[Compared]) -> list[list[str]]:
    """Names of columns, and a line for each prediction."""
    cells = [["mode", "ranks", "predicted", "", "measured", "error", *LAWS]]
    for one in found:
        (mode, ranks, *_), error = one.prediction, one.error
        low, high = one.prediction.low * 1e3, one.prediction.high * 1e3
        cells.append([
            mode, str(ranks), f"{one.prediction.seconds * 1e3:.3f}", f"[{low:.3f}, {high:.3f}]",
            f"{one.seconds * 1e3:.3f}", f"{error:+.1%}", *(f"{law:+.1%}" for law in one.by_laws.values()),
        ])  # fmt: skip
    return cells


def compared_with_before(found: Sequence[Change], allowed: float) -> list[str]:
    """What became of efficiency since another sweep."""
    table = [["mode", "ranks", "before", "now", "ratio", "by chance", "verdict"]]
    table += [
        [
            one.mode, str(one.ranks), f"{one.before:.1%}", f"{one.now:.1%}", f"{one.ratio:.3f}", f"{one.chance:.1%}",
            "fell" if one.fell else "as before" if one.ratio < 1 + allowed else "rose",
        ]
        for one in found
    ]  # fmt: skip
    return [f"efficiency since before, of which {allowed:.0%} may be lost", *aligned(table)]


def time_of(seconds: float) -> str:
    """In the largest unit of which it is one at least."""
    units = (("days", 86_400.0), ("hours", 3_600.0), ("minutes", 60.0), ("s", 1.0))
    name, size = next((unit for unit in units if seconds >= unit[1]), units[-1])
    return f"{seconds / size:.1f} {name}"


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f} µs"


def _interval(median: Median, times: float, form: str) -> str:
    return f"[{median.low * times:{form}}, {median.high * times:{form}}]"


def _share(efficiency: float | None) -> str:
    return "-" if efficiency is None else f"{efficiency:.1%}"


def _seconds(median: Median | None) -> str:
    return "never" if median is None else f"{median.value:.2f}"
