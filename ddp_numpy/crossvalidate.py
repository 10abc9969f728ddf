"""Cross-validation: how well a network does on rows that it was not trained on, by turns on all of them.

mpirun -n 4 python -m ddp_numpy.crossvalidate --folds 10 --data table.csv --epochs 20
"""

import dataclasses
import math
import statistics
from typing import Any

import click
import numpy as np

import ddp_numpy
from ddp_numpy.base.errors import InputError, JobError
from ddp_numpy.base.options import Whole
from ddp_numpy.cli import run, training_options, training_settings
from ddp_numpy.comm import Communicator, SingleProcess, is_launched, world
from ddp_numpy.data import Table, TableOptions, load_table, other_rows, prepare, stratified_folds
from ddp_numpy.making import chosen_scale, make_trainer, table_options
from ddp_numpy.runs.report import Report
from ddp_numpy.settings import Settings

_NOT_HERE = ("valid", "test", "valid-fraction", "out", "resume", "override", "checkpoint-every", "keep", "describe")


@click.command("crossvalidate", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--folds", type=Whole(2), default=5, help="Parts of the rows; each validates once.")
@training_options
@click.pass_context
def main(context: click.Context, /, folds: int, **_: Any) -> None:
    """Train a network once for each fold of the rows, on all others, and judge it by that fold.

    Each rank trains whole networks, one fold after another, so the result is the same on any number of ranks to the
    last bit. Nothing is written.
    """
    settings, given = training_settings(context)
    comm = world(settings.training.comm, settings.training.stall_timeout)
    with comm.unhurried():
        with comm.together():
            if refused := [name for name in _NOT_HERE if name in given]:
                raise InputError(f"--{refused[0]}: cross-validation has no use for it; leave it out")
        crossvalidate(settings, folds, comm)


def crossvalidate(settings: Settings, folds: int, comm: Communicator) -> list[dict[str, float]]:
    """The figures of each fold, on every rank, after they were printed. Collective. Raises InputError."""
    report = Report(visible=comm.rank == 0 and not settings.output.quiet, launched=is_launched())
    with comm.together():
        options, scale = TableOptions(**table_options(settings.data)), chosen_scale(settings.data)
    table = load_table(settings.data.source, comm, options, settings.data.map_above, report.line)
    with comm.together():
        parts = fold_of_rows(table, folds, settings.training.seed)
    fields = {
        "ranks": f"{comm.size} on {', '.join(comm.hosts())}; each trains whole networks, one for each of its folds",
        "data": f"{settings.data.source}: {len(parts):,} rows in {folds} folds",
    }
    if table.notes:
        fields["columns"] = "; ".join(table.notes)
    report.fields(f"ddp_numpy {ddp_numpy.__version__}", fields)
    own, failed = {}, None
    mine = range(comm.rank, folds, comm.size)
    rows = len(parts) - len(parts) // folds
    with report.progress(settings.training.epochs * len(mine), rows) as advance:
        try:
            own = {number: _judged(settings, table, parts == number, scale, advance) for number in mine}
        except JobError as error:
            failed = error
    comm.agree(failed)
    gathered = comm.broadcast(comm.gather(own)) or []
    found = [figures for _, figures in sorted(pair for part in gathered for pair in part.items())]
    _print(report, found)
    return found


def fold_of_rows(table: Table, folds: int, seed: int) -> Any:
    """For each row (n,) its fold. Raises InputError if there are fewer rows than folds, or one row of a class."""
    n = len(table.labels)
    if folds > n:
        raise InputError(f"--folds {folds}: there are only {n} rows")
    if table.predicts_numbers:
        return stratified_folds(np.zeros(n, np.int64), folds, seed)
    counts = np.bincount(table.labels)
    if (counts < 2).any():
        rare = int(np.argmin(counts))
        name = table.class_names[rare] if table.class_names else rare
        raise InputError(f"class {name} has 1 row; cross-validation needs at least 2 of each, as one validates")
    return stratified_folds(table.labels, folds, seed)


def _judged(settings: Settings, table: Table, held_out: Any, scale: str, advance: Any) -> dict[str, float]:
    """The figures of a network that is trained on all rows but these, by these."""
    train = prepare(table.rows(np.flatnonzero(~held_out)), scale, settings.data.missing)
    valid = other_rows(table.rows(np.flatnonzero(held_out)), train)
    trainer = make_trainer(settings, train, SingleProcess())
    *_, last = trainer.fit(train, valid, settings.training.epochs, advance)
    found = {name: value for name, value in dataclasses.asdict(last).items() if name.startswith("valid_")}
    return {"rows": len(valid)} | {name: value for name, value in found.items() if value is not None}


def _print(report: Report, found: list[dict[str, float]]) -> None:
    """A line for each fold, and the mean of all."""
    shown = {"valid_loss": ("loss", "{:.4f}"), "valid_accuracy": ("accuracy", "{:.2%}")}
    shown |= {"valid_rmse": ("RMSE", "{:.5g}"), "valid_r2": ("R²", "{:.4f}")}
    names = [name for name in shown if name in found[0]]
    report.line()
    report.line("  ".join(["fold", "     rows", *(f"{shown[name][0]:>9}" for name in names)]), style="bold")
    for number, values in enumerate(found, 1):
        cells = [shown[name][1].format(values[name]).rjust(9) for name in names]
        report.line("  ".join([f"{number:>4}", f"{values['rows']:>9,}", *cells]))
    for name in names:
        title, form = shown[name]
        mean, half = mean_and_half([values[name] for values in found])
        most = 1.0 if name in ("valid_accuracy", "valid_r2") else math.inf
        edges = " to ".join(form.format(min(edge, most)) for edge in (mean - half, mean + half))
        report.line(f"mean {title} {form.format(mean)}, 95 % interval {edges}")


def mean_and_half(values: list[float]) -> tuple[float, float]:
    """The mean of at least two values, and half of its 95 % interval, by Student's t.

    The folds' networks share most of their rows, so the interval is somewhat too narrow (Bengio and Grandvalet 2004,
    JMLR 5:1089).
    """
    spread = statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), t_quantile(len(values) - 1) * spread


def t_quantile(freedom: int) -> float:
    """Student's t within which 95 % lie, for so many degrees of freedom. Example: 2.776 for 4.

    With t = sqrt(freedom) * tan(angle), the density is proportional to cos(angle) ** (freedom - 1).
    """
    angles = np.linspace(0, math.pi / 2, 200_001)
    density = np.cos(angles) ** (freedom - 1)
    within = np.cumsum(density[:-1] + density[1:])
    return math.sqrt(freedom) * math.tan(angles[1 + np.searchsorted(within, 0.95 * within[-1])])


if __name__ == "__main__":
    run(main)
