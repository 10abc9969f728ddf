"""A trained network as an ONNX file, for other runtimes and for browsers.

python -m ddp_numpy.export --weights runs/a model.onnx
"""

from importlib.util import find_spec
from pathlib import Path

import click

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.cli import run
from ddp_numpy.runs.model_file import load_model


@click.command("export", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--weights", required=True, metavar="FILE", help="A model.npz, a checkpoint, or a run's folder.")
@click.option("--opset", type=int, metavar="N", help="Of the operators, 18 to 22. Default: 18; 20 for GELU.")
@click.argument("out", type=click.Path(path_type=Path), metavar="MODEL.onnx")
def main(weights: str, opset: int | None, out: Path) -> None:
    """Write a network as ONNX. It takes raw features, any number of rows at a time: the scaling is inside."""
    if find_spec("onnx") is None:
        raise InputError("exporting needs onnx; install it with: pip install onnx")
    import onnx

    from ddp_numpy.deploy.onnx_file import metadata
    from ddp_numpy.deploy.onnx_graph import to_onnx

    model = load_model(weights)
    made = to_onnx(model, metadata(model), opset)
    onnx.checker.check_model(made, full_check=True)
    data = made.SerializeToString()
    with writing(out), atomic_write(out) as file:
        file.write(data)
    versions = f"opset {made.opset_import[0].version}, ir_version {made.ir_version}"
    click.echo(f"{out}: {len(data):,} bytes, {versions}; {model}: {model.params.size:,} parameters")


if __name__ == "__main__":
    run(main, alone=True)
