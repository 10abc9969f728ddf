"""What a trained network predicts, row by row, as lines of a table."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TextIO

from ddp_numpy.base.columns import texts_of
from ddp_numpy.data import Part
from ddp_numpy.deploy.inputs import Inputs
from ddp_numpy.nn import Sequential


class Predicted(NamedTuple):
    """Of the rows of a part."""

    names: Sequence[str] | None
    """What the rows are called, if not by their numbers."""
    cells: list[list[str]]
    """What stands behind that in each line."""
    warnings: list[str]


def predict_part(part: Part, inputs: Inputs, model: Sequential, identifier: str, probabilities: bool) -> Predicted:
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
    return Predicted(names, cells, [f"{part.path}: {warning.message}" for warning in caught])


def write_lines(file: TextIO, names: list[str], found: Iterable[Predicted], noted: dict[str, None]) -> int:
    """Write all lines, and return how many rows there are. noted: gets the warnings, each once."""
    lines, rows = csv.writer(file, lineterminator="\n"), 0
    lines.writerow(names)
    for part in found:
        own = part.names or map(str, range(rows + 1, rows + len(part.cells) + 1))
        lines.writerows([name, *cells] for name, cells in zip(own, part.cells, strict=True))
        rows += len(part.cells)
        noted |= dict.fromkeys(part.warnings)
    return rows
