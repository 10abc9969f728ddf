"""A page on which a trained network reads digits as they are drawn, and predictions for programs, over HTTP.

python -m ddp_numpy.serve --weights runs/a
"""

from collections.abc import Sequence
from pathlib import Path

import click

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.packages import need
from ddp_numpy.cli import run
from ddp_numpy.comm import Communicator
from ddp_numpy.deploy.drawing_page import BUNDLED_RUN, Runtime, Step, page_files, read_steps, why_not_drawn, write_page
from ddp_numpy.runs.model_code import model_file_option, own_layers

_PACKAGES = ("fastapi", "uvicorn", "prometheus_client", "python_multipart")


@click.command("serve", context_settings={"show_default": True, "max_content_width": 110})
@click.option("--weights", type=click.Path(path_type=Path), metavar="FILE",
              help="A model.npz, a checkpoint, or a run's folder, of which the page shows all checkpoints. Default: a "
              "small network that comes with the package.")  # fmt: skip
@model_file_option
@click.option("--static", "folder", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Write the page there, for any web server, and end.")  # fmt: skip
@click.option(
    "--onnxruntime",
    is_flag=True,
    help="Let the page run onnxruntime, too, to show that both read the same. Downloads 33 MB once.",
)
@click.option("--host", default="127.0.0.1", metavar="NAME", help="The address to answer on; 0.0.0.0 for all networks.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, metavar="N", help="0 takes a free one.")
@click.pass_obj
def main(
    comm: Communicator,
    weights: Path | None,
    model_file: Path | None,
    folder: Path | None,
    onnxruntime: bool,
    host: str,
    port: int,
) -> None:
    """Serve a page on which digits are read as they are drawn, by the network in the page itself.

    Programs get predictions by POST /predict, of any network; /openapi.json describes how. Ends when it is interrupted.
    """
    if onnxruntime:
        need("--onnxruntime", "onnx")
    if folder is None:
        need("serving", *_PACKAGES, otherwise="write the page for any web server with --static FOLDER")
    steps = read_steps(weights or BUNDLED_RUN, own_layers(model_file, comm))
    reason = why_not_drawn(steps[-1].model)
    if reason and (folder or onnxruntime):
        raise InputError(f"{weights}: {reason}")
    files = {} if reason else page_files(steps, _runtime(steps) if onnxruntime else None)
    if folder is not None:
        write_page(files, folder)
        click.echo(f"{folder}: the page, {sum(map(len, files.values())):,} bytes in {len(files)} files")
        return
    from ddp_numpy.deploy.api import predicting_app
    from ddp_numpy.deploy.server import serve

    app = predicting_app(files, steps[-1].model)
    serve(app, host, port, lambda address: click.echo(f"{address} answers until you press Ctrl-C"))


def _runtime(steps: Sequence[Step]) -> Runtime:
    from ddp_numpy.deploy.onnx_file import metadata
    from ddp_numpy.deploy.onnx_graph import to_onnx
    from ddp_numpy.deploy.onnxruntime_web import runtime_files

    graphs = [to_onnx(step.model, metadata(step.model)).SerializeToString() for step in steps]
    return Runtime(runtime_files(), graphs)


if __name__ == "__main__":
    run(main, alone=True)
