"""What a trained network predicts, row by row, as a table of its own.

mpirun -n 4 python -m ddp_numpy.predict --weights runs/a --data test.csv --out submission.csv
"""

import collections
import contextlib
import csv
import io
import itertools
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

import click

from ddp_numpy.base.columns import texts_of
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.base.messages import tell
from ddp_numpy.cli import run
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Part, TableOptions
from ddp_numpy.deploy.inputs import Inputs
from ddp_numpy.nn import Sequential
from ddp_numpy.runs.model_file import load_model

_WARNINGS = 5  # that are shown


class _Predicted(NamedTuple):
    """Of the rows of a part."""

    names: Sequence[str] | None
    """What the rows are called, if not by their numbers."""
    cells: list[list[str]]
    """What stands behind that in each line."""
    warnings: list[str]


@click.command("predict", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--weights", required=True, metavar="FILE", help="A model.npz, a checkpoint, or a run's folder.")
@click.option("--data", required=True, metavar="FILE",
              help="A table or .npz, as training takes it, labelled or not; or a picture of a digit, or a folder or a "
              "'pattern' of pictures.")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE.csv", help="Default: print the lines.")
@click.option("--probabilities", is_flag=True, help="A column for each class, in place of one for the likeliest.")
@click.option("--id", "identifier", default="ImageId", metavar="NAME",
              help="The first column: of the table, if it has it, or else the rows' numbers from 1.")  # fmt: skip
@click.option("--label", default="Label", metavar="NAME", help="What the column of predictions is called.")
@click.option("--no-header", is_flag=True, help="The first line of the table has values, not names.")
@click.option("--encoding", default="utf-8", help="Of tables in text.")
@click.pass_obj
def main(
    comm: Communicator,
    weights: str,
    data: str,
    out: Path | None,
    probabilities: bool,
    identifier: str,
    label: str,
    no_header: bool,
    encoding: str,
) -> None:
    """Predict the class, or the number, of each row of a table or each picture, in the order of the data.

    By default in the form of Kaggle's digit recognizer. All ranks predict together; the result is the same on any
    number of them. The table may be larger than memory.
    """
    with comm.unhurried():
        model = comm.on_root(lambda: load_model(weights))
        with comm.together():
            if probabilities and model.target is not None:
                raise InputError(f"--probabilities: the model of {weights} predicts numbers, not classes")
            inputs = Inputs(model, TableOptions(header=not no_header, encoding=encoding, labelled=False))
        start = time.perf_counter()
        found = inputs.open(data, comm).map(lambda part: _predicted(part, inputs, model, identifier, probabilities))
        if comm.rank:
            collections.deque(found, maxlen=0)  # it yields nothing, but this rank's parts are predicted in it
            return
        names = list(map(str, model.class_names or range(model.output_shape[0]))) if probabilities else [label]
        noted: dict[str, None] = {}
        with writing(out or Path("-")), _output(out) as file:
            rows = _write(file, [identifier, *names], found, noted)
        for line in itertools.islice(noted, _WARNINGS):
            tell(f"warning: {line}")
        if len(noted) > _WARNINGS:
            tell(f"warning: {len(noted) - _WARNINGS:,} more of the kind")
        if out is not None:
            seconds = time.perf_counter() - start
            click.echo(f"{out}: {rows:,} predictions in {seconds:.3g} s, {rows / seconds:,.0f} a second")


@contextlib.contextmanager
def _output(path: Path | None) -> Iterator[TextIO]:
    """Standard output, or a file that appears when all is written."""
    if path is None:
        yield sys.stdout
        return
    with atomic_write(path) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def _write(file: TextIO, names: list[str], found: Iterator[_Predicted], noted: dict[str, None]) -> int:
    """Write all lines, and return how many rows there are. noted: gets the warnings, each once."""
    lines, rows = csv.writer(file, lineterminator="\n"), 0
    lines.writerow(names)
    for part in found:
        own = part.names or map(str, range(rows + 1, rows + len(part.cells) + 1))
        lines.writerows([name, *cells] for name, cells in zip(own, part.cells, strict=True))
        rows += len(part.cells)
        noted |= dict.fromkeys(part.warnings)
    return rows


def _predicted(part: Part, inputs: Inputs, model: Sequential, identifier: str, probabilities: bool) -> _Predicted:
    """What the model says of the rows of a part."""
    names = part.names
    if hasattr(part.rows, "columns") and identifier in part.rows.columns:
        names = texts_of(part.rows[identifier].to_numpy()).tolist()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        logits = inputs.logits(inputs.rows(part))
    if probabilities:
        cells = [[f"{share:.7g}" for share in row] for row in model.probabilities_of(logits).tolist()]
    elif model.target is not None:
        cells = [[f"{number:.10g}"] for number in model.predictions_of(logits).tolist()]
    else:
        cells = [[str(name)] for name in model.predictions_of(logits).tolist()]
    return _Predicted(names, cells, [f"{part.path}: {warning.message}" for warning in caught])


if __name__ == "__main__":
    run(main)
