"""The command line of the scaling lab: python -m ddp_numpy.scaling, or python -m launch scaling."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import tell
from ddp_numpy.cli import run, training_options, training_settings
from ddp_numpy.comm import is_reporter
from ddp_numpy.runs.report import progress
from ddp_numpy.scaling.explain import explained
from ddp_numpy.scaling.folder import opened
from ddp_numpy.scaling.plan import Mode, Sweep
from ddp_numpy.scaling.results import rows
from ddp_numpy.scaling.samples import LINES, TABLE, Samples
from ddp_numpy.scaling.sweep import Launcher, ended_by_signals
from ddp_numpy.scaling.table import explanation, lines
from ddp_numpy.settings import Output

_MODES: dict[str, tuple[Mode, ...]] = {"strong": ("strong",), "weak": ("weak",), "both": ("strong", "weak")}
# Options of the launcher that are passed on.
_LAUNCH = ("hosts", "hostfile", "mpi", "threads", "bind", "env", "mpi_args")


class Counts(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """Numbers of ranks: 1,2,4."""

    name = "counts"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        """As click asks."""
        if isinstance(value, tuple):
            return value
        try:
            found = tuple(sorted({int(part) for part in str(value).split(",")}))
        except ValueError:
            found = (0,)
        if found[0] < 1 or found[-1] >= 2**31:
            self.fail(f"{value!r} is not numbers of ranks, like 1,2,4", param, context)
        return found


@click.command("scaling", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--ranks", type=Counts(), required=True, metavar="1,2,4", help="Numbers of ranks to measure.")
@click.option("--mode", type=click.Choice(list(_MODES)), default="strong",
              help="strong: --batch-size is the global batch; weak: it is the batch of each rank.")  # fmt: skip
@click.option("--repeat", type=click.IntRange(1, 1000), default=5, help="How often each number of ranks is launched.")
@click.option("--seconds", type=click.FloatRange(0, 3600, min_open=True), default=2.0, help="To measure in a launch.")
@click.option("--target-loss", type=float, help="Measure, too, how long it takes to this validation loss.")
@click.option("--explain/--no-explain", default=True, help="Measure, too, where efficiency goes: more launches.")
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
         target_loss: float | None, explain: bool, **others: Any) -> None:  # fmt: skip
    """Measure how training scales with the number of ranks, launch by launch, with all samples kept.

    A sweep that was broken off goes on if it is started again with the same --out.
    """
    if not is_reporter(None):
        raise InputError("a sweep launches its ranks itself; start it once, without mpirun")
    settings, given = training_settings(context)
    names = {option.name for option in Output.options()}
    if unused := given & names - {"out", "quiet"}:
        raise InputError(f"--{min(unused)}: a sweep only measures, and saves no model")
    sweep = Sweep(ranks, _MODES[mode], settings.training.batch_size, repeat, explain)
    options = [f"--{name.replace('_', '-')}={value}" for name in _LAUNCH for value in _values(others[name])]
    target = [] if target_loss is None else ["--target-loss", str(target_loss)]
    training = {name: value for name, value in settings.recorded().items() if name not in names}
    if settings.model.model_file is not None:  # whose code is no setting that a run records
        training["model-file"] = str(settings.model.model_file.resolve())
    recorded = ["--explain"] if explain else []
    launcher = Launcher(tuple(options), training, ("--seconds", str(seconds), *target, *recorded))
    folder = settings.output.out or Path("scaling") / time.strftime("%Y-%m-%d-%H%M%S")
    plan = {
        "ranks": list(ranks), "modes": list(sweep.modes), "training": training, "launch": options, "seconds": seconds,
        "target loss": target_loss, "explain": explain,
    }  # fmt: skip
    with ended_by_signals():
        launcher.check(sweep)
        with opened(folder, plan) as (samples, seed):
            if samples.torn:
                tell(f"note: the last line of {folder / LINES} was cut off; it is measured again")
            measure(sweep, launcher, samples, seed, quiet=settings.output.quiet)
    if not settings.output.quiet:
        for each in sweep.modes:
            click.echo("\n".join((*lines(sweep, each, rows(sweep, each, samples.all), target_loss), "")))
            if found := explained(sweep, each, samples.all):
                click.echo("\n".join((*explanation(found), "")))
        click.echo(f"all samples: {folder / LINES} and {TABLE}")


def measure(sweep: Sweep, launcher: Launcher, samples: Samples, seed: int, quiet: bool) -> None:
    """Launch what has no sample yet, with a progress bar if the output is a terminal."""
    done = {(sample.repetition, sample.point) for sample in samples.all}
    left = [launch for launch in sweep.launches(seed) if launch not in done]
    with progress("measuring", len(left), None if quiet else Console()) as advance:
        for repetition, point in left:
            samples.add(launcher.measure(repetition, point))
            advance(1)


def _values(value: Any) -> tuple[str, ...]:
    """Of an option that may be given more than once, or not at all."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


if __name__ == "__main__":
    run(main, alone=True)
