"""Times the networks of the drawing page in Chromium: the milliseconds that a digit takes, for each network by name.

python -m benchmarks.drawing
"""

import shutil
import statistics
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import click
import numpy as np
from playwright.sync_api import sync_playwright

from ddp_numpy import Sequential, SingleProcess, load_data
from ddp_numpy.base.scale import Scale
from ddp_numpy.deploy.drawing_page import Step, page_files, write_page
from ddp_numpy.nn.presets import IMAGE_PRESETS, mlp

_TIME = """async ([rows, turns]) => {
  const { Network } = await import("./network.js");
  const about = await (await fetch("network.json")).json();
  const weights = new Float32Array(await (await fetch(about.steps[0].weights)).arrayBuffer());
  const network = new Network(about.model, weights);
  const features = rows.map((row) => Float64Array.from(row));
  const milliseconds = [];
  for (let turn = 0; turn < turns; turn++) {
    const start = performance.now();
    for (const row of features) network.forward(row);
    milliseconds.push((performance.now() - start) / features.length);
  }
  return milliseconds;
}"""


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@click.command()
@click.option("--turns", type=int, default=30, show_default=True, help="Of each network, with 20 digits each.")
def main(turns: int) -> None:
    """Make, open, time, print."""
    _, valid = load_data("digits", SingleProcess())
    rows = np.asarray(valid.features)[::50].tolist()
    with TemporaryDirectory() as folder, sync_playwright() as started:
        server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: _Quiet(*given, directory=folder))
        Thread(target=server.serve_forever, daemon=True).start()
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        click.echo(f"Chromium {browser.version}: milliseconds a digit, median (least to most), and of the first turn")
        for name in ("mlp", *IMAGE_PRESETS):
            write_page(page_files([Step("", made(name))]), Path(folder))
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            first, *others = page.evaluate(_TIME, [rows, turns])
            page.close()
            found = f"{statistics.median(others):.2f} ({min(others):.2f} to {max(others):.2f})"
            click.echo(f"{name:>8}  {found}  {first:.2f}")
        browser.close()
        server.shutdown()


def made(name: str) -> Sequential:
    """A network by name, with weights as they are before training."""
    model = Sequential(*(mlp(10) if name == "mlp" else IMAGE_PRESETS[name](10, (28, 28, 1), 0.0)))
    model.build((784,))
    model.scale = Scale(255.0)
    model.initialize(np.random.default_rng(0))
    return model


if __name__ == "__main__":
    main()
