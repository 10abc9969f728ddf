"""What a trained network predicts, row by row, as a table of its own.

mpirun -n 4 python -m ddp_numpy.predict --weights runs/a --data test.csv --out submission.csv
"""

import collections
import contextlib
import io
import itertools
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.base.messages import tell
from ddp_numpy.cli import run
from ddp_numpy.comm import Communicator
from ddp_numpy.data import TableOptions
from ddp_numpy.deploy.inputs import Inputs
from ddp_numpy.deploy.predictions import predict_part, write_lines
from ddp_numpy.runs.model_code import model_file_option, own_layers
from ddp_numpy.runs.model_file import load_model

_WARNINGS = 5  # that are shown


@click.command("predict", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--weights", required=True, metavar="FILE", help="A model.npz, a checkpoint, or a run's folder.")
@model_file_option
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
    model_file: Path | None,
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
        layers = own_layers(model_file, comm)
        model = comm.on_root(lambda: load_model(weights, layers))
        with comm.together():
            if probabilities and model.target is not None:
                raise InputError(f"--probabilities: the model of {weights} predicts numbers, not classes")
            inputs = Inputs(model, TableOptions(header=not no_header, encoding=encoding, labelled=False))
        start = time.perf_counter()
        found = inputs.open(data, comm).map(lambda part: predict_part(part, inputs, model, identifier, probabilities))
        if comm.rank:
            collections.deque(found, maxlen=0)  # it yields nothing, but this rank's parts are predicted in it
            return
        names = list(map(str, model.classes)) if probabilities else [label]
        noted: dict[str, None] = {}
        with writing(out or Path("-")), _output(out) as file:
            rows = write_lines(file, [identifier, *names], found, noted)
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


if __name__ == "__main__":
    run(main)
