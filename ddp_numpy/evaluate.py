"""How good a trained network is on labelled rows, class by class, with its worst mistakes.

mpirun -n 4 python -m ddp_numpy.evaluate --weights runs/a --data test.csv --out evaluation.html
"""

import json
from collections.abc import Iterator
from pathlib import Path

import click

from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.base.messages import aligned, one_line
from ddp_numpy.base.packages import need
from ddp_numpy.cli import run
from ddp_numpy.comm import Communicator
from ddp_numpy.data import TableOptions
from ddp_numpy.deploy.evaluation import Evaluation, judge, mean_of
from ddp_numpy.deploy.inputs import Inputs
from ddp_numpy.runs.model_code import model_file_option, own_layers
from ddp_numpy.runs.model_file import load_model

_MOST_CLASSES = 20  # of which a terminal shows a table of who is taken for whom
_MOST_PAIRS = 10


@click.command("evaluate", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--weights", required=True, metavar="FILE", help="A model.npz, a checkpoint, or a run's folder.")
@model_file_option
@click.option("--data", required=True, metavar="FILE", help="Labelled rows, as training takes them; of MNIST and its "
              "like those to validate.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.html", help="A page with tables and pictures.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE.json",
              help="The figures, for other programs.")  # fmt: skip
@click.option("--label-column", metavar="NAME", help="Default: as in training.")
@click.option("--missing", type=click.Choice(["error", "drop"]), default="error",
              help="What to do with rows that have a missing value, unless the model can fill it.")  # fmt: skip
@click.option("--no-header", is_flag=True, help="The first line of the table has values, not names.")
@click.option("--encoding", default="utf-8", help="Of tables in text.")
@click.pass_obj
def main(
    comm: Communicator,
    weights: str,
    model_file: Path | None,
    data: str,
    out: Path | None,
    json_file: Path | None,
    label_column: str | None,
    missing: str,
    no_header: bool,
    encoding: str,
) -> None:
    """Judge a network by labelled rows, which may be more than memory holds, on all ranks together.

    The result is the same on any number of ranks, to the last bit.
    """
    with comm.unhurried():
        with comm.together():
            if out is not None:
                need("--out: a page", "matplotlib")
            options = TableOptions(label_column, header=not no_header, encoding=encoding, missing=missing)
        layers = own_layers(model_file, comm)
        model = comm.on_root(lambda: load_model(weights, layers))
        inputs = Inputs(model, options)
        judged = list(inputs.open(data, comm).map(lambda part: judge(part, inputs, model)))
        with comm.together():
            if comm.rank == 0:
                found, about = Evaluation.of(judged, model), f"{weights} on {data}"
                for line in (one_line(f"{about}: {len(found):,} rows"), *summary(found), *_tables(found)):
                    click.echo(line)
                if json_file is not None:
                    _save(json_file, json.dumps({"weights": weights, "data": data, **found.figures()}, indent=1) + "\n")
                if out is not None:
                    from ddp_numpy.deploy.evaluation_page import page  # needs an extra

                    _save(out, page(found, about, summary(found), [column.name for column in model.columns]))
                    click.echo(f"page: {out}")


def summary(found: Evaluation) -> list[str]:
    """Lines with the figures of all rows together."""
    if not found.names:
        return [
            f"root of the mean squared error {found.rmse:.5g}, mean absolute error {found.mae:.5g}, R² {found.r2:.4f}"
        ]
    least, most = found.accuracy_interval
    return [
        f"accuracy {found.accuracy:.2%} (95 % interval {least:.2%} to {most:.2%}), loss {found.loss:.4f}",
        f"confidence and accuracy are {found.calibration_error:.2%} apart (expected calibration error)",
    ]


def _tables(found: Evaluation) -> Iterator[str]:
    """The figures of classes, and which are taken for which."""
    if not found.names:
        return
    cells = [["class", "precision", "recall", "F1", "rows"]]
    for one in (*found.classes, mean_of(found.classes)):
        cells.append([one_line(one.name), *(f"{value:.2%}" for value in one[1:4]), f"{one.rows:,}"])
    yield from ("", *aligned(cells))
    if len(found.names) <= _MOST_CLASSES:
        names = list(map(one_line, found.names))
        counts = [[name, *map(str, row)] for name, row in zip(names, found.confusion.tolist(), strict=True)]
        yield from ("", "rows of each class, by the class they were taken for", *aligned([["", *names], *counts]))
    else:
        pairs = [[one_line(a), one_line(b), f"{rows:,}"] for a, b, rows in found.confused(_MOST_PAIRS)]
        yield from ("", "the most frequent mistakes", *aligned([["is", "taken for", "rows"], *pairs]))


def _save(path: Path, text: str) -> None:
    with writing(path), atomic_write(path) as file:
        file.write(text.encode())


if __name__ == "__main__":
    run(main)
