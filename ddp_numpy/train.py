"""The command line of training: options -> objects -> fit."""

import contextlib
import math
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource
from click_option_group import optgroup

import ddp_numpy
from ddp_numpy.base.errors import DivergedError, InputError, Interrupted
from ddp_numpy.base.threads import blas, describe_blas
from ddp_numpy.cli import config_option, run
from ddp_numpy.comm import Communicator, is_launched, world
from ddp_numpy.data import Dataset, load_data
from ddp_numpy.nn import Dense, Layer, ReLU, Sequential
from ddp_numpy.optim import SGD
from ddp_numpy.runs.report import Report
from ddp_numpy.runs.run_folder import CHECKPOINTS, CONFIG, METRICS, MODEL, RunFolder, Start, find_start
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.training.trainer import Trainer
from ddp_numpy.training.watchdog import Watchdog


class PositiveFloat(click.FloatRange):
    """A finite number above 0."""

    name = "float"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        number: float = super().convert(value, param, context)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, context)
        return number


class Widths(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """Whole numbers above 0, with commas between: 128,64. Nothing at all is no hidden layer."""

    name = "integers"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        if not all(part.isdecimal() and int(part) > 0 for part in value.split(",") if value):
            self.fail(f"{value!r} is not a list of whole numbers above 0, like 128,64", param, context)
        return str(value)


class CountOrAll(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """A whole number above 0, or the word all."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int | str:
        text = str(value)
        if text != "all" and not (text.isdecimal() and int(text) > 0):
            self.fail(f"{value!r} is neither a whole number above 0 nor all", param, context)
        return text if text == "all" else int(text)


@click.command("train", context_settings={"show_default": True, "max_content_width": 110})
@optgroup.group("Data")
@optgroup.option(
    "--data", default="digits", metavar="SOURCE",
    help="digits (bundled), mnist (downloaded once), a .csv, .csv.gz or .npz file, or a folder of IDX files.",
)  # fmt: skip
@optgroup.option("--label-column", metavar="NAME", help="Of a CSV file; else the one named label, else the first.")
@optgroup.option(
    "--valid-fraction", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.2,
    help="Share of the rows held out for validation where the data has no split of its own.",
)  # fmt: skip
@optgroup.option(
    "--divisor", type=PositiveFloat(),
    help="What features are divided by; else 255 if all are whole numbers 0..255, else 1.",
)  # fmt: skip
@optgroup.group("Model")
@optgroup.option("--hidden", type=Widths(), default="128,64", help="Widths of the hidden ReLU layers.")
@optgroup.option("--dtype", type=click.Choice(["float32", "float64"]), default="float32")
@optgroup.group("Training")
@optgroup.option("--epochs", type=click.IntRange(min=1), default=20)
@optgroup.option(
    "--batch-size", type=click.IntRange(min=1), default=64, help="The global batch, whatever the number of ranks."
)
@optgroup.option("--lr", type=PositiveFloat(), default=0.01, help="Learning rate of SGD.")
@optgroup.option(
    "--momentum", type=click.FloatRange(0, 1, max_open=True), default=0.0, help="How much of its last update SGD keeps."
)
@optgroup.option("--clip-norm", type=PositiveFloat(), help="Scale larger gradients down to this Euclidean norm.")
@optgroup.option("--seed", type=click.IntRange(min=0), default=1, help="Of the split, the first weights, the order.")
@optgroup.option(
    "--comm", type=click.Choice(["auto", "node-shared", "allreduce"]), default="auto",
    help="How ranks sum gradients: in memory that a node's ranks share, or by MPI's Allreduce.",
)  # fmt: skip
@optgroup.option("--reproducible", is_flag=True, help="The same weights to the last bit on any number of ranks.")
@optgroup.option(
    "--micro-rows", type=click.IntRange(min=1), show_default="16; an eighth of a larger batch than 128, 128 at most",
    help="Of --reproducible: the rows that are multiplied together, whatever the number of ranks.",
)  # fmt: skip
@optgroup.option(
    "--check-replicas", type=click.IntRange(min=1), default=100, metavar="N",
    help="Compare a hash of weights and optimizer state between ranks every N steps.",
)  # fmt: skip
@optgroup.option(
    "--stall-timeout", type=PositiveFloat(), default=300.0, metavar="S",
    help="End the job when a rank is silent, or late for a step, for so many seconds.",
)  # fmt: skip
@optgroup.group("Output")
@optgroup.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", show_default="runs/<time>",
    help=f"Gets {METRICS}, {CONFIG}, {CHECKPOINTS} and {MODEL}.",
)  # fmt: skip
@optgroup.option(
    "--checkpoint-every", type=(click.IntRange(min=1), click.Choice(["steps", "epochs"])), default=(1, "epochs"),
    metavar="N steps|epochs", help="How often to write down all that is needed to go on.",
)  # fmt: skip
@optgroup.option(
    "--keep", type=CountOrAll(), default=3, metavar="N|all",
    help="Newest checkpoints to keep, besides the best; all: wait for a slow disk, too, rather than leave one out.",
)  # fmt: skip
@optgroup.option(
    "--resume", metavar="auto|PATH",
    help="Go on from the newest checkpoint of --out, if there is one, or from a run's folder or a checkpoint.",
)  # fmt: skip
@optgroup.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE.toml", is_eager=True, callback=config_option,
    help="Options from a file (batch-size = 64 …); the command line wins.",
)  # fmt: skip
def main(**options: Any) -> None:
    """Train a network on labelled rows: alone, or under mpirun on all ranks together, with the same result."""
    context = click.get_current_context()
    given = {name for name in options if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    comm = world(options["comm"])
    with Watchdog(comm, options["stall_timeout"], Report.warning) as watchdog:
        train(options, given, comm, watchdog)


def train(options: dict[str, Any], given: set[str], comm: Communicator, watchdog: Watchdog) -> None:
    """Train as the command's options say, and leave a run folder behind. Collective.

    given: the names of the options that are not defaults; a run that is gone on with brings the others along.
    """
    report = Report(visible=comm.rank == 0 and not options["quiet"], launched=is_launched())
    start = Start(None, None)
    with comm.together():
        if comm.rank == 0:
            start = find_start(options["resume"], options["out"], report.warning)
            options |= _brought_along(start, given)
    options = comm.broadcast(options)
    train_data, valid_data = load_data(
        options["data"],
        comm,
        label_column=options["label_column"],
        valid_fraction=options["valid_fraction"],
        seed=options["seed"],
        divisor=options["divisor"],
    )
    model = Sequential(*_layers(options["hidden"], train_data.classes), dtype=options["dtype"])
    optimizer = SGD(options["lr"], options["momentum"])
    trainer = Trainer(
        model,
        optimizer,
        comm,
        batch_size=options["batch_size"],
        seed=options["seed"],
        clip_norm=options["clip_norm"],
        reproducible=options["reproducible"],
        micro_rows=options["micro_rows"],
        check_every=options["check_replicas"],
    )
    options["micro_rows"] = trainer.micro_rows
    watchdog.watch(lambda: (trainer.sums_begun, trainer.sums_ended))
    trainer.prepare(train_data)
    trajectory, run_folder = {}, None
    with comm.together():
        if comm.rank == 0:
            trajectory = _trajectory(options, trainer, train_data)
            _check_trajectory(start, trajectory, options["epochs"])
            if trainer.micro_rows:
                _warn_of_idle_ranks(comm.size, trainer.batch_size, trainer.micro_rows, report)
                _warn_of_another_blas(start, report)
    if comm.broadcast(start.snapshot is not None):
        snapshot = start.snapshot or Snapshot(0, 0, {}, {})  # rank 0's counts
        trainer.restore(snapshot.epoch, snapshot.step, snapshot.arrays)
    with comm.together():
        if comm.rank == 0:
            facts = {"trajectory": trajectory, "blas": blas()[0]}
            keep = None if options["keep"] == "all" else options["keep"]
            run_folder = RunFolder(start, _resolved(options), facts, keep, report.warning)
    hosts = comm.hosts()
    report.fields(
        f"ddp_numpy {ddp_numpy.__version__}",
        {
            "ranks": f"{comm.size} on {', '.join(hosts)}; {comm.library or 'one process, no MPI'}"
            + (f"; sums by {comm.sums}" if comm.sums else ""),
            "BLAS": describe_blas(),
            "data": f"{options['data']}: {len(train_data):,} rows to train, {len(valid_data):,} to validate, "
            f"{train_data.features.shape[1]:,} features (divided by {train_data.divisor:g}), "
            f"{train_data.classes} classes",
            "model": f"{model} softmax: {model.params.size:,} parameters, {model.dtype}",
            "training": f"{options['epochs']} epochs of {trainer.epoch_steps:,} steps, global batch "
            f"{trainer.batch_size}, {optimizer}"
            + (f", gradients clipped to {trainer.clip_norm:g}" if trainer.clip_norm else "")
            + f", seed {trainer.seed}"
            + (f"; reproducible, in micro-shards of {trainer.micro_rows} rows" if trainer.micro_rows else ""),
            "output": str(run_folder.path if run_folder else ""),
        }
        | ({"resumed": f"after epoch {trainer.epoch}, step {trainer.step}, from {start.path}"} if start.path else {}),
    )
    report.table_header()
    try:
        _fit(trainer, train_data, valid_data, options, run_folder, report)
        with comm.together():
            if run_folder is not None:
                run_folder.finish(model)
    except (Interrupted, DivergedError) as error:
        if run_folder is not None:
            raise type(error)(f"{error}. {run_folder.how_to_go_on()}") from error
        raise
    finally:
        if run_folder is not None:
            run_folder.close()


def _fit(
    trainer: Trainer,
    train_data: Dataset,
    valid_data: Dataset,
    options: dict[str, Any],
    run_folder: RunFolder | None,
    report: Report,
) -> None:
    """Train to the last epoch, and write down what is to stay. run_folder: rank 0's; None elsewhere."""
    number, unit = options["checkpoint_every"]

    def after_step(rows: int) -> None:
        advance(rows)
        if run_folder and (trainer.stopping or (unit == "steps" and trainer.steps_made % number == 0)):
            run_folder.save(Snapshot(trainer.epoch, trainer.step, trainer.state()), trainer.steps_made)

    with _stopped_by_signals(trainer), report.progress(options["epochs"], len(train_data)) as advance:
        advance(trainer.epoch * len(train_data) + int(trainer.epoch_sums[2]))  # of an earlier start
        for epoch in trainer.fit(train_data, valid_data, options["epochs"], after_step):
            report.epoch(epoch)
            if run_folder:
                best = run_folder.add_epoch(epoch)
                last = epoch.number == options["epochs"]
                if best or last or (unit == "epochs" and epoch.number % number == 0):
                    run_folder.save(Snapshot(trainer.epoch, 0, trainer.state()), trainer.steps_made, best)


@contextlib.contextmanager
def _stopped_by_signals(trainer: Trainer) -> Iterator[None]:
    """Let SIGTERM and SIGUSR1, which schedulers send before they kill, end training at the end of a step."""

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop = True

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _layers(hidden: str, classes: int) -> list[Layer]:
    layers: list[Layer] = []
    for width in hidden.split(",") if hidden else []:
        layers += [Dense(int(width)), ReLU()]
    return [*layers, Dense(classes)]


def _brought_along(start: Start, given: set[str]) -> dict[str, Any]:
    """The options of the run that is gone on with, but for those that are given anew or are the machine's business."""
    if start.snapshot is None:
        return {}
    options = {name.replace("-", "_"): value for name, value in start.snapshot.facts["options"].items()}
    return {name: value for name, value in options.items() if name not in given | {"comm", "stall_timeout"}}


def _trajectory(options: dict[str, Any], trainer: Trainer, train_data: Dataset) -> dict[str, Any]:
    """What must be the same for a run to go on as it would have, by names for people."""
    names = ["seed", "batch_size", "dtype", "lr", "momentum", "clip_norm", "reproducible"]
    names += ["micro_rows"] * options["reproducible"]
    chosen = {f"--{name.replace('_', '-')}": options[name] for name in names}
    return {"model": str(trainer.model), **chosen, "SHA-256 of the training rows": train_data.sha256()}


def _check_trajectory(start: Start, trajectory: dict[str, Any], epochs: int) -> None:
    """Raise InputError if going on from a checkpoint would not be what its run would have done."""
    if start.snapshot is None:
        return
    before = start.snapshot.facts["trajectory"]
    changed = [
        f"{name} was {before.get(name)}, now {now}" for name, now in trajectory.items() if before.get(name) != now
    ]
    if changed:
        raise InputError(f"{start.path}: can't go on with other settings: {'; '.join(changed)}")
    if epochs < start.snapshot.epoch + (start.snapshot.step > 0):
        raise InputError(f"{start.path}: is in epoch {start.snapshot.epoch + 1} already; raise --epochs from {epochs}")


def _warn_of_idle_ranks(ranks: int, batch_size: int, micro_rows: int, report: Report) -> None:
    """Say so where more ranks were started than can have work."""
    shards = -(-batch_size // micro_rows)
    if ranks > shards:
        report.warning(
            f"{ranks - shards} of {ranks} ranks have nothing to do, as a batch of {batch_size} rows has {shards} "
            f"micro-shards of {micro_rows}; see --micro-rows and --batch-size"
        )


def _warn_of_another_blas(start: Start, report: Report) -> None:
    """Say so where the last bits may change although nothing was done wrong."""
    before = start.snapshot.facts["blas"] if start.snapshot else None
    if before not in (None, blas()[0]):
        report.warning(
            f"{start.path}: made with {before}, and now it is {blas()[0]}: the last bits may not be those that the run "
            "would have had; OPENBLAS_CORETYPE chooses OpenBLAS's kernel"
        )


def _resolved(options: dict[str, Any]) -> dict[str, Any]:
    """The options as --config takes them back, for a run of the same result from any folder."""
    values = {name.replace("_", "-"): value for name, value in sorted(options.items()) if value is not None}
    values["checkpoint-every"] = list(options["checkpoint_every"])
    for name in ("config", "out", "quiet", "resume"):
        values.pop(name, None)
    path = Path(values["data"])
    if values["data"] not in ("digits", "mnist") and path.exists():
        values["data"] = str(path.resolve())
    return values


if __name__ == "__main__":
    run(main)
