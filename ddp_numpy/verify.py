"""The proof that the number of ranks doesn't change the result.

Trains the same job at several rank counts, and compares the weights after each epoch.

python -m ddp_numpy.verify --ranks 1,2,3,4 --reproducible --data train.csv --epochs 5
"""

import dataclasses
import math
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import click
import numpy as np

import ddp_numpy
from ddp_numpy.base.errors import JobError
from ddp_numpy.base.messages import begin_command, tell
from ddp_numpy.comm import SingleProcess
from ddp_numpy.making import make_optimizer
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.optim import SGD
from ddp_numpy.runs.model_code import model_file_option, own_layers
from ddp_numpy.runs.model_file import load_model
from ddp_numpy.runs.snapshot import read_snapshot
from ddp_numpy.settings import Settings


def _rank_counts(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    counts = text.split(",")
    if not all(re.fullmatch("[1-9][0-9]{0,8}", count) for count in counts) or len(set(counts)) < len(counts):
        raise click.BadParameter(f"{text!r} is not a list of different whole numbers above 0, like 1,2,3,4")
    return [int(count) for count in counts]


def _words(_: click.Context, __: click.Parameter, text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: {error}") from None


@click.command(
    "verify", context_settings={"ignore_unknown_options": True, "show_default": True, "max_content_width": 110}
)
@click.option("--ranks", default="1,2,3,4", callback=_rank_counts, metavar="N,N,…", help="Rank counts to compare.")
@click.option(
    "--launch",
    "launch_options",
    default="",
    callback=_words,
    metavar="ARGS",
    help="For the launcher, like '--hosts a,b'.",
)
@model_file_option
@click.version_option(ddp_numpy.__version__, message="ddp_numpy %(version)s")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def main(ranks: list[int], launch_options: list[str], model_file: Path | None, options: tuple[str, ...]) -> None:
    """Train the same job at each rank count, and print whether its weights are the same after every epoch.

    Options that this command does not know are passed to ddp_numpy.train. Exits with 1 if there is a difference: with
    --reproducible any difference, otherwise a difference that is larger than rounding explains.
    """
    with tempfile.TemporaryDirectory() as parent:
        first: Trained | None = None
        equal = True
        for count in ranks:
            trained = _train(count, launch_options, model_file, options, Path(parent, str(count)))
            first = first or trained
            equal &= _certify(trained, first)
    assert first is not None
    counts = ", ".join(map(str, ranks))
    if not equal:
        print(f"DIFFERENT: the number of ranks, of {counts}, changes the result")
        sys.exit(1)
    words = "EQUAL TO THE LAST BIT" if first.settings.training.reproducible else "EQUAL UP TO ROUNDING"
    print(f"{words} on {counts} ranks")


@dataclasses.dataclass(frozen=True)
class Trained:
    """The result of one job with this number of ranks."""

    ranks: int
    settings: Settings
    model: Sequential
    epochs: list[Array]
    """The parameters after each epoch."""
    epoch_steps: int


def _certify(trained: Trained, first: Trained) -> bool:
    """Print a line for each epoch. Returns whether all equal the first job's, up to rounding if that is allowed."""
    equal = True
    for number, (params, expected) in enumerate(zip(trained.epochs, first.epochs, strict=True), 1):
        difference, words = _compare(params, expected, trained.model.parameter_slices())
        bound = _rounding(trained.settings, number * trained.epoch_steps)
        equal &= difference <= bound
        allowed = f" (at most {bound:.1e} is rounding)" if difference and bound else ""
        trained.model.params[...] = params
        digest = trained.model.digest()
        ranks = "1 rank" if trained.ranks == 1 else f"{trained.ranks} ranks"
        print(f"{ranks}  epoch {number}  {digest}  {words}{allowed}")
    return equal


def _rounding(settings: Settings, steps: int) -> float:
    """How far apart rounding alone may bring the weights in so many steps, relative to the largest weight."""
    training = settings.training
    if training.reproducible:
        return 0.0
    if settings.model.dtype == "float64":
        return 1e-12
    # If a ReLU's input is 0 except for rounding, it may be positive with one rank count and not with another. Then only
    # one of the jobs lets that row's gradient through. The bound is as if this happened to one row in every step, in
    # random directions: one row of B counts lr / B, momentum m makes this 1 / (1 - m) times as much, and n steps in
    # random directions add up to sqrt(n) times one step. Example: 0.01 / 64 * sqrt(10,500) = 0.016.
    # Other optimizers divide by the gradient's own size, so one that is nothing but rounding makes a whole step of lr.
    optimizer = make_optimizer(training)
    if not isinstance(optimizer, SGD):
        return optimizer.lr * math.sqrt(steps)
    return optimizer.lr / (1 - optimizer.hyper["momentum"]) / training.batch_size * math.sqrt(steps)


def _compare(params: Array, expected: Array, slices: dict[str, slice]) -> tuple[float, str]:
    """The largest difference relative to the largest expected weight, and a text: "equal", or how much and where.

    The difference is 0 only if all bits are equal. So 0.0 and -0.0 differ, by the smallest number; and two NaN, unlike
    numbers for arithmetic, are equal if their bits are.
    """
    bits, expected_bits = (vector.view(f"u{vector.itemsize}") for vector in (params, expected))
    unlike = bits != expected_bits
    if not unlike.any():
        return 0.0, "equal"
    largest = float(np.abs(expected).max()) or 1.0  # all may be 0
    difference = float(np.abs(params[unlike] - expected[unlike]).max()) / largest or sys.float_info.min
    first = int(np.argmax(unlike))
    name, part = next((name, part) for name, part in slices.items() if part.start <= first < part.stop)
    where = f"{name}, element {first - part.start}"
    return difference, f"differs by {difference:.1e} of the largest weight, first in {where}"


def _train(
    ranks: int, launch_options: list[str], model_file: Path | None, options: tuple[str, ...], folder: Path
) -> Trained:
    # By its path: a launch.py in the working folder can't take the launcher's place.
    launcher = Path(__file__).parents[1] / "launch" / "__main__.py"
    command = [sys.executable, str(launcher), "run", "-n", str(ranks), *launch_options, *options]
    if model_file is not None:
        command += ["--model-file", str(model_file)]
    command += ["--quiet", "--out", str(folder), "--checkpoint-every", "1", "epochs", "--keep", "all"]
    status = subprocess.run(command, check=False).returncode
    if status == 2:
        sys.exit(status)  # the job has said what is wrong
    if status:
        raise click.ClickException(f"the job of {ranks} ranks ended with status {status}")
    if not (folder / "model.npz").exists():
        raise click.ClickException(
            f"the job of {ranks} ranks left nothing in {folder}: if rank 0 is on another host, start this command "
            "there, or set TMPDIR to a folder that both hosts see"
        )
    settings = Settings.of(tomllib.loads((folder / "config.toml").read_text()))
    checkpoints = sorted(folder.glob("checkpoints/step-*.npz"))
    if len(checkpoints) < settings.training.epochs:
        raise click.ClickException(f"{folder}: not all checkpoints could be written; set TMPDIR to a larger disk")
    epochs = [read_snapshot(path).arrays["params"] for path in checkpoints]
    epoch_steps = int(checkpoints[0].stem.removeprefix("step-"))
    model = load_model(folder / "model.npz", own_layers(model_file, SingleProcess()))
    return Trained(ranks, settings, model, epochs, epoch_steps)


if __name__ == "__main__":
    begin_command()
    try:
        sys.exit(main.main(prog_name="python -m ddp_numpy.verify", standalone_mode=False))
    except click.ClickException as error:
        tell(f"error: {error.format_message().rstrip('.')}")
        sys.exit(2)
    except click.Abort:  # Ctrl-C
        sys.exit(130)
    except JobError as error:
        tell(f"error: {error}")
        sys.exit(error.exit_status)
