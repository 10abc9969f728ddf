"""Times the server's predictions: 64 connections ask for a digit each, as soon as they have the answer before.

python -m benchmarks.serving --weights runs/digits

Printed are the requests a second and how long answers took, when requests that wait go through the network together,
as the server does it, and when it takes one at a time; and errors, of which there must be none.
"""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

from ddp_numpy import SingleProcess, load_data
from ddp_numpy.deploy.drawing_page import BUNDLED_RUN

_SERVER = """
import sys
from pathlib import Path
from ddp_numpy.deploy.drawing_page import read_steps
from ddp_numpy.deploy.api import predicting_app
from ddp_numpy.deploy.server import serve
app = predicting_app({}, read_steps(Path(sys.argv[1]))[-1].model, int(sys.argv[2]))
serve(app, "127.0.0.1", 0, lambda address: print(address, flush=True))
"""
_HEAD = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


@click.command()
@click.option("--weights", type=click.Path(path_type=Path), default=BUNDLED_RUN, help="Default: the bundled network.")
@click.option("--connections", type=int, default=64, show_default=True)
@click.option("--seconds", type=float, default=30.0, show_default=True)
def main(weights: Path, connections: int, seconds: float) -> None:
    """Start, ask, print."""
    _, valid = load_data("digits", SingleProcess())
    bodies = [json.dumps({"rows": [row.tolist()]}).encode() for row in np.asarray(valid.features)[::20]]
    for name, most in (("together", 1024), ("one at a time", 1)):
        command = [sys.executable, "-c", _SERVER, str(weights), str(most)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            port = int(server.stdout.readline().strip("/\n").rpartition(":")[2])
            try:
                asyncio.run(ask(port, bodies, connections, 2))  # until all is warm
                took, wrong = asyncio.run(ask(port, bodies, connections, seconds))
            finally:
                server.terminate()
        p50, p99 = np.quantile(took, [0.5, 0.99]) * 1000
        click.echo(
            f"{name:>13}: {len(took) / seconds:,.0f} requests a second, p50 {p50:.1f} ms, p99 {p99:.1f} ms, "
            f"{wrong} errors in {len(took):,}"
        )


async def ask(port: int, bodies: list[bytes], connections: int, seconds: float) -> tuple[list[float], int]:
    """How long each answer took, in seconds, and how many were errors."""
    took: list[float] = []
    end = time.perf_counter() + seconds
    wrong = await asyncio.gather(*(_connection(port, bodies, first, end, took) for first in range(connections)))
    return took, sum(wrong)


async def _connection(port: int, bodies: list[bytes], first: int, end: float, took: list[float]) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number, wrong = first, 0
    while (start := time.perf_counter()) < end:
        body = bodies[number % len(bodies)]
        number += 1
        writer.write(_HEAD % len(body) + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        took.append(time.perf_counter() - start)
        wrong += b" 200 " not in answer[:16]
    writer.close()
    return wrong


if __name__ == "__main__":
    main()
