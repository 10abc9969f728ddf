"""A trained network as an ONNX file, for other runtimes and for browsers.

python -m ddp_numpy.export --weights runs/a model.onnx
"""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.packages import need
from ddp_numpy.cli import run
from ddp_numpy.comm import SingleProcess
from ddp_numpy.making import read_data
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.runs.marker import CONFIG
from ddp_numpy.runs.model_file import load_model
from ddp_numpy.settings import Settings

if TYPE_CHECKING:
    from onnx import ModelProto

_MOST_ROWS = 100_000  # by which --int8 is judged


@click.command("export", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--weights", required=True, metavar="FILE", help="A model.npz, a checkpoint, or a run's folder.")
@click.option("--opset", type=int, metavar="N", help="Of the operators, 18 to 22. Default: 18; 20 for GELU.")
@click.option("--int8", is_flag=True, help="Whole numbers of 8 bits in place of float32; --weights is a run's folder.")
@click.argument("out", type=click.Path(path_type=Path), metavar="MODEL.onnx")
def main(weights: str, opset: int | None, int8: bool, out: Path) -> None:
    """Write a network as ONNX. It takes raw features, any number of rows at a time: the scaling is inside.

    --int8 takes the ranges of numbers from the rows that the run trained on, and prints what becomes of its accuracy
    on the rows that validated it, and of its speed.
    """
    need("exporting", "onnx", *(["onnxruntime"] if int8 else []))
    import onnx

    from ddp_numpy.deploy.onnx_file import metadata
    from ddp_numpy.deploy.onnx_graph import to_onnx

    model = load_model(weights)
    made = to_onnx(model, metadata(model), opset)
    lines = [f"{model}: {model.params.size:,} parameters"]
    if int8:
        folded = to_onnx(model, metadata(model, to_read_back=False), opset, folds=True)
        made, said = _in_8_bits(model, made, folded, Path(weights))
        lines += said
    onnx.checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    with writing(out), atomic_write(out) as file:
        file.write(data)
    versions = f"opset {made.opset_import[0].version}, ir_version {made.ir_version}"
    for line in (*lines, f"{out}: {len(data):,} bytes, {versions}"):
        click.echo(line)


def _in_8_bits(
    model: Sequential, made: "ModelProto", folded: "ModelProto", folder: Path
) -> "tuple[ModelProto, list[str]]":
    """The folded graph in whole numbers, and lines that compare it with the other.

    Raises InputError if the run's rows are not there.
    """
    from ddp_numpy.deploy.onnx_int8 import CALIBRATION_ROWS, Runtime, quantized

    try:
        settings = Settings.of(tomllib.loads((folder / CONFIG).read_text()))
    except OSError:
        raise InputError(
            f"--int8: {folder} is no run's folder; it is needed, as {CONFIG} in it says which rows trained"
        ) from None
    except ValueError as error:
        raise InputError(f"--int8: {folder / CONFIG}: damaged ({one_line(error)})") from None
    train, valid = read_data(settings, SingleProcess())
    if train.sha256() != model.trained.get("data_sha256"):
        raise InputError(f"--int8: {settings.data.source}: these are not the rows that the run was trained on")
    calibration, judging = (
        np.arange(0, len(data), -(-len(data) // most))
        for data, most in ((train, CALIBRATION_ROWS), (valid, _MOST_ROWS))
    )
    shape = (-1, *(model.input_shape or ()))
    whole = quantized(folded, train.raw(calibration).reshape(shape))
    rows, lines = valid.raw(judging).reshape(shape), []
    for name, graph in (("float32", made), ("int8", whole)):
        runtime = Runtime(graph)
        figure = _figure(runtime.first_output(rows), valid.labels[judging], model)
        lines.append(
            f"{name:>7}: {graph.ByteSize():,} bytes, {figure} on {len(rows):,} rows, "
            f"{runtime.rows_a_second(rows):,.0f} rows a second on one thread"
        )
    return whole, [*lines, f"{whole.ByteSize() / made.ByteSize():.1%} of the bytes"]


def _figure(found: Array, labels: Array, model: Sequential) -> str:
    if model.target is None:
        return f"accuracy {(found.argmax(axis=1) == labels).mean():.2%}"
    return f"RMSE {np.sqrt(((found - labels) ** 2).mean()):.5g}"


if __name__ == "__main__":
    run(main, alone=True)
