"""The command line of the scaling lab: python -m ddp_numpy.scaling, or python -m launch scaling."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import tell
from ddp_numpy.cli import run, training_options, training_settings
from ddp_numpy.comm import is_reporter
from ddp_numpy.runs.report import progress
from ddp_numpy.scaling.advice import Adviser
from ddp_numpy.scaling.basis import Basis
from ddp_numpy.scaling.compare import EFFICIENCY, changes, keep_efficiencies, measured, read
from ddp_numpy.scaling.explain import explained
from ddp_numpy.scaling.folder import found_in, opened
from ddp_numpy.scaling.options import Counts, Rate, simulation_options
from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.predictions import Asked, Outlook, compared, keep
from ddp_numpy.scaling.results import rows
from ddp_numpy.scaling.samples import LINES, TABLE, Sample, Samples
from ddp_numpy.scaling.simulation import Simulating
from ddp_numpy.scaling.sweep import Launcher, ended_by_signals
from ddp_numpy.scaling.table import compared_with_before, comparison, explanation, lines, outlook, simulation
from ddp_numpy.settings import Output, Settings

_MODES: dict[str, tuple[Mode, ...]] = {"strong": ("strong",), "weak": ("weak",), "both": ("strong", "weak")}
_OF_OUTPUT = {option.name for option in Output.options()}
# Options of the launcher that are passed on.
_LAUNCH = ("hosts", "hostfile", "mpi", "threads", "bind", "env", "mpi_args")


@click.command("scaling", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--ranks", type=Counts(), required=True, metavar="1,2,4", help="Numbers of ranks to measure.")
@click.option("--mode", type=click.Choice(list(_MODES)), default="strong",
              help="strong: --batch-size is the global batch; weak: it is the batch of each rank.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1, 1000), default=5, help="How often each number of ranks is launched.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=2.0, help="To measure in a launch.")
@click.option("--target-loss", type=float, help="Measure, too, how long it takes to this validation loss.")
@click.option("--explain/--no-explain", default=True, help="Measure, too, where efficiency goes: more launches.")
@click.option("--trace", type=click.Path(path_type=Path), metavar="FILE.json.gz",
              help="Launch the most ranks once more, and write some of their steps for ui.perfetto.dev.")  # fmt: skip
@click.option("--compare", type=click.Path(path_type=Path), metavar="FILE",
              help=f"{EFFICIENCY} of another sweep: exit with 1 if efficiency fell since.")  # fmt: skip
@click.option("--allowed-loss", type=click.FloatRange(0, 1, max_open=True), default=0.05,
              help="The share of the efficiency that may be lost before --compare says that it fell.")  # fmt: skip
@click.option("--predict", type=Counts(), default=(), show_default=False, metavar="16,64",
              help="Numbers of ranks to predict from what is measured.")  # fmt: skip
@click.option("--ranks-per-host", type=click.IntRange(1), metavar="K",
              help="Of what is predicted; default: as many as are measured on one.")  # fmt: skip
@click.option("--links", type=Rate(), metavar="1gbit", help="Rate of the links between the hosts that are measured.")
@click.option("--from", "others", type=click.Path(path_type=Path), metavar="FOLDER", multiple=True,
              help="Another sweep, with links of another rate, to predict from, too.")  # fmt: skip
@click.option("--network", type=Rate(), metavar="100gbit", help="Of those that are predicted, if it is another.")
@click.option("--efficiency", type=click.FloatRange(0, 1, min_open=True), default=0.75,
              help="Predict up to how many ranks it does not fall below this.")  # fmt: skip
@click.option("--within", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Predict how few ranks train --epochs in so many seconds.")  # fmt: skip
@simulation_options
@click.option("--hosts", metavar="a:4,b:4", help="As for launch run.")
@click.option("--hostfile", metavar="FILE", help="As for launch run.")
@click.option("--mpi", metavar="NAME", help="As for launch run.")
@click.option("--threads", metavar="K", help="As for launch run.")
@click.option("--bind", metavar="none|core|socket", help="As for launch run.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="As for launch run.")
@click.option("--mpi-args", metavar="ARGS", help="As for launch run.")
@training_options
@click.pass_context
def main(context: click.Context, /, ranks: tuple[int, ...], mode: str, repeat: int, seconds: float,
         target_loss: float | None, explain: bool, trace: Path | None, compare: Path | None, allowed_loss: float,
         predict: tuple[int, ...], ranks_per_host: int | None, links: float | None, others: tuple[Path, ...],
         network: float | None, efficiency: float, within: float | None, **launch: Any) -> None:  # fmt: skip
    """Measure how training scales with the number of ranks, launch by launch, with all samples kept.

    A sweep that was broken off goes on if it is started again with the same --out.
    """
    if not is_reporter(None):
        raise InputError("a sweep launches its ranks itself; start it once, without mpirun")
    settings, given = training_settings(context)
    if unused := given & _OF_OUTPUT - {"out", "quiet"}:
        raise InputError(f"--{min(unused)}: a sweep only measures, and saves no model")
    simulating = Simulating(**{name: launch.pop(name) for name in Simulating._fields})
    unlaunched = tuple(sorted({*predict, *simulating.simulate}))
    if unlaunched and not explain:
        raise InputError("--predict and --simulate need what --explain measures")
    if network is not None and links is None and simulating.latency is None:
        raise InputError("--network: needs --links, the rate of the links between the hosts that are measured")
    sweep = Sweep(ranks, _MODES[mode], settings.training.batch_size, repeat, explain, unlaunched)
    options = [f"--{name.replace('_', '-')}={value}" for name in _LAUNCH for value in _values(launch[name])]
    training = _training(settings)
    launcher = Launcher(tuple(options), training, _job_options(seconds, target_loss, explain))
    folder = settings.output.out or Path("scaling") / time.strftime("%Y-%m-%d-%H%M%S")
    plan = {
        "training": training, "launch": options, "seconds": seconds, "target loss": target_loss, "explain": explain,
        "links": links,
    }  # fmt: skip
    if trace is not None and not trace.absolute().parent.is_dir():
        raise InputError(f"--trace {trace}: there is no folder {trace.parent}; make it first")
    theirs = [(found, their["links"]) for found, their in map(found_in, others)]
    before = read(compare) if compare else None
    with ended_by_signals():
        launcher.check(sweep)
        with opened(folder, plan) as (samples, seed):
            if samples.torn:
                tell(f"note: the last line of {folder / LINES} was cut off; it is measured again")
            measure(sweep, launcher, samples, seed, quiet=settings.output.quiet)
            if trace is not None:
                launcher.trace(Point(ranks[-1], sweep.batch(sweep.modes[0], ranks[-1])), trace)
            now = measured(sweep, samples.all)
            keep_efficiencies(folder, now)

            def basis(mode: Mode, counts: tuple[int, ...]) -> Basis:
                return Basis(sweep, mode, samples.all, counts, ranks_per_host, links, theirs)

            asked = Asked(predict, network, efficiency, within, settings.training.epochs)
            foretold, predictions = foretell(sweep.modes, basis, asked, simulating, folder)
    if not settings.output.quiet:
        tell_results(sweep, folder, samples.all, target_loss, links, foretold)
        click.echo(f"all samples: {folder / LINES} and {TABLE}{predictions and f'; predictions: {predictions}'}")
    if before is not None:
        changed = changes(before, now, allowed_loss)
        click.echo("\n".join(("", *compared_with_before(changed, allowed_loss))))
        context.exit(1 if any(one.fell for one in changed) else 0)


def foretell(
    modes: Sequence[Mode],
    basis: Callable[[Mode, tuple[int, ...]], Basis],
    asked: Asked,
    simulating: Simulating,
    folder: Path,
) -> tuple[dict[Mode, list[list[str]]], str]:
    """Predict and simulate what is asked for: of each mode what is to be said, and the file of predictions, if any.

    basis: of a mode and numbers of ranks.
    """
    outlooks = {mode: Outlook(basis(mode, asked.ranks), asked) for mode in modes if asked.ranks}
    predicted = [one.of(ranks) for one in outlooks.values() for ranks in asked.ranks]
    file = keep(folder, predicted).name if predicted else ""
    said = {mode: [outlook(outlooks[mode])] if mode in outlooks else [] for mode in modes}
    for mode in modes if simulating.simulate else ():
        found = simulating.outcomes(basis(mode, simulating.simulate), asked.network)
        said[mode].append(simulation(simulating, found))
    return said, file


def tell_results(
    sweep: Sweep,
    folder: Path,
    samples: Sequence[Sample],
    target_loss: float | None,
    links: float | None,
    foretold: Mapping[Mode, Sequence[Sequence[str]]],
) -> None:
    """Print what the folder's samples say, of other numbers of ranks too, which were measured before.

    links: bits a second of those between hosts. foretold: see foretell.
    """
    all_ranks = {sample.point.ranks for sample in samples if sample.point.kind == "ranks"}
    sweep = dataclasses.replace(sweep, ranks=tuple(sorted(all_ranks)))
    for mode in sweep.modes:
        said: list[Sequence[str]] = [lines(sweep, mode, rows(sweep, mode, samples), target_loss)]
        if found := explained(sweep, mode, samples):
            said.append(explanation(found, Adviser(sweep, mode, samples, links)))
        click.echo("\n".join(line for part in (*said, *foretold[mode]) for line in (*part, "")))
    if predicted := compared(folder, sweep, samples):
        click.echo("\n".join((*comparison(predicted), "")))


def measure(sweep: Sweep, launcher: Launcher, samples: Samples, seed: int, quiet: bool) -> None:
    """Launch what has no sample yet, with a progress bar if the output is a terminal."""
    done = {(sample.repetition, sample.point) for sample in samples.all}
    left = [launch for launch in sweep.launches(seed) if launch not in done]
    with progress("measuring", len(left), None if quiet else Console()) as advance:
        for repetition, point in left:
            samples.add(launcher.measure(repetition, point))
            advance(1)


def _training(settings: Settings) -> dict[str, Any]:
    """The options of training, as a launch takes them."""
    found = {name: value for name, value in settings.recorded().items() if name not in _OF_OUTPUT}
    if settings.model.model_file is not None:  # whose code is no setting that a run records
        found["model-file"] = str(settings.model.model_file.resolve())
    return found


def _job_options(seconds: float, target_loss: float | None, explain: bool) -> tuple[str, ...]:
    """Those of job.py."""
    target = () if target_loss is None else ("--target-loss", str(target_loss))
    return ("--seconds", str(seconds), *target, *(("--explain",) if explain else ()))


def _values(value: Any) -> tuple[str, ...]:
    """Of an option that may be given more than once, or not at all."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


if __name__ == "__main__":
    run(main, alone=True)
