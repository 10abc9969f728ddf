"""The command line of training: options -> objects -> fit."""

import datetime
import math
from pathlib import Path
from typing import Any

import click
import tomli_w
from click_option_group import optgroup

import ddp_numpy
from ddp_numpy.checkpoint import save_model
from ddp_numpy.cli import config_option, run
from ddp_numpy.comm import Communicator, is_launched, world
from ddp_numpy.data import load_data
from ddp_numpy.errors import InputError
from ddp_numpy.files import atomic_write
from ddp_numpy.metrics import append_json_line
from ddp_numpy.nn import Dense, Layer, ReLU, Sequential
from ddp_numpy.optim import SGD
from ddp_numpy.report import Report
from ddp_numpy.threads import describe_blas
from ddp_numpy.trainer import Trainer

_METRICS, _CONFIG, _MODEL = "metrics.jsonl", "config.toml", "model.npz"


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
@optgroup.option("--seed", type=click.IntRange(min=0), default=1, help="Of the split, the first weights, the order.")
@optgroup.option(
    "--comm", type=click.Choice(["auto", "node-shared", "allreduce"]), default="auto",
    help="How ranks sum gradients: in memory that a node's ranks share, or by MPI's Allreduce.",
)  # fmt: skip
@optgroup.group("Output")
@optgroup.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", show_default="runs/<time>",
    help=f"Gets {_METRICS}, {_CONFIG} and {_MODEL}.",
)  # fmt: skip
@optgroup.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE.toml", is_eager=True, callback=config_option,
    help="Options from a file (batch-size = 64 …); the command line wins.",
)  # fmt: skip
def main(**options: Any) -> None:
    """Train a network on labelled rows: alone, or under mpirun on all ranks together, with the same result."""
    train(options, world(options["comm"]))


def train(options: dict[str, Any], comm: Communicator) -> None:
    """Train as the command's options say, and leave a run folder behind. Collective."""
    report = Report(visible=comm.rank == 0 and not options["quiet"], launched=is_launched())
    train_data, valid_data = load_data(
        options["data"],
        comm,
        label_column=options["label_column"],
        valid_fraction=options["valid_fraction"],
        seed=options["seed"],
        divisor=options["divisor"],
    )
    model = Sequential(*_layers(options["hidden"], train_data.classes), dtype=options["dtype"])
    trainer = Trainer(model, SGD(options["lr"]), comm, batch_size=options["batch_size"], seed=options["seed"])
    trainer.prepare(train_data)
    folder = comm.on_root(lambda: _create_run_folder(options))
    steps = math.ceil(len(train_data) / trainer.batch_size)
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
            "training": f"{options['epochs']} epochs of {steps:,} steps, global batch {trainer.batch_size}, "
            f"SGD, learning rate {options['lr']:g}, seed {trainer.seed}",
            "output": str(folder),
        },
    )
    report.table_header()
    with report.progress(options["epochs"], len(train_data)) as on_step:
        for epoch in trainer.fit(train_data, valid_data, options["epochs"], on_step):
            comm.on_root(lambda: append_json_line(folder / _METRICS, epoch.as_dict()))  # noqa: B023
            report.epoch(epoch)
    comm.on_root(lambda: save_model(model, folder / _MODEL))


def _layers(hidden: str, classes: int) -> list[Layer]:
    layers: list[Layer] = []
    for width in hidden.split(",") if hidden else []:
        layers += [Dense(int(width)), ReLU()]
    return [*layers, Dense(classes)]


def _create_run_folder(options: dict[str, Any]) -> Path:
    """Make the folder, refusing one that holds another run's results, and write the resolved options to it."""
    folder: Path = options["out"] or _unused_folder(Path("runs"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in (_METRICS, _MODEL):
            if (folder / name).exists():
                raise InputError(f"{folder}: holds {name} of another run; choose another folder with --out")
        with atomic_write(folder / _CONFIG) as file:
            tomli_w.dump(_resolved(options), file)
    except OSError as error:
        raise InputError(f"{folder}: can't write there: {error.strerror or error}; choose another --out") from error
    return folder


def _unused_folder(parent: Path) -> Path:
    """A folder named after the time, with a number behind it if another run began in the same second."""
    stem = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder, number = parent / stem, 1
    while folder.exists():
        number += 1
        folder = parent / f"{stem}_{number}"
    return folder


def _resolved(options: dict[str, Any]) -> dict[str, Any]:
    """The options as --config takes them back, for a run of the same result from any folder."""
    values = {name.replace("_", "-"): value for name, value in sorted(options.items()) if value is not None}
    for name in ("config", "out", "quiet"):
        values.pop(name, None)
    path = Path(values["data"])
    if values["data"] not in ("digits", "mnist") and path.exists():
        values["data"] = str(path.resolve())
    return values


if __name__ == "__main__":
    run(main)
