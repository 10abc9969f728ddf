"""A page that shows runs as they go on.

python -m ddp_numpy.dashboard runs
"""

import os
import signal
import sys
import threading
from pathlib import Path

import click

from ddp_numpy.base.packages import need
from ddp_numpy.cli import run


@click.command("dashboard", context_settings={"show_default": True, "max_content_width": 110})
@click.argument("runs", nargs=-1, type=click.Path(path_type=Path), metavar="[RUNS…]")
@click.option("--host", default="127.0.0.1", metavar="NAME", help="The address to answer on; 0.0.0.0 for all networks.")
@click.option("--port", type=click.IntRange(0, 65535), default=8001, metavar="N", help="0 takes a free one.")
@click.option("--until-input-ends", is_flag=True, hidden=True, help="End when whoever started this process is gone.")
def main(runs: tuple[Path, ...], host: str, port: int, until_input_ends: bool) -> None:
    """Show runs as they go on: loss, accuracy, speed, time left, waiting ranks. Default: all in the folder runs.

    Only reads the runs' folders. Ends when it is interrupted.
    """
    need("the dashboard", "fastapi", "uvicorn")
    from ddp_numpy.deploy.live_page import live_app
    from ddp_numpy.deploy.server import serve
    from ddp_numpy.runs.watch import Watch

    app = live_app(Watch(list(runs) or [Path("runs")]))
    if until_input_ends:
        threading.Thread(target=_end_with_input, daemon=True).start()
    serve(app, host, port, lambda address: click.echo(f"{address} shows the runs until you press Ctrl-C"))


def _end_with_input() -> None:
    """The other end of standard input closes when that process ends, however it does."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    run(main, alone=True)
