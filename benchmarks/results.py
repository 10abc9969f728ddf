"""Prints the README's table of results: the same job with several numbers of ranks and several seeds.

python -m benchmarks.results --data data/train.csv
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from ddp_numpy import load_model

_EPOCHS = (1, 10, 20)


def numbers(_: click.Context, __: click.Parameter, text: str) -> list[int]:
    """ "1,2,5-8" -> [1, 2, 5, 6, 7, 8]."""
    found: list[int] = []
    for part in text.split(","):
        first, _dash, last = part.partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise click.BadParameter(f"{part!r} is not a whole number or a range like 1-3")
        found += range(int(first), int(last or first) + 1)
    return found


def train(data: str, ranks: int, seed: int, folder: Path) -> tuple[list[dict[str, float]], np.ndarray]:
    """Train one job. Returns its metrics, one object per epoch, and its weights."""
    command = [sys.executable, "-m", "launch", "run", "-n", str(ranks), "--quiet"]
    subprocess.run([*command, "--data", data, "--seed", str(seed), "--out", folder], check=True)
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines], load_model(folder / "model.npz").params


def mean_and_range(values: list[float], style: str) -> str:
    """ "mean (lowest to highest)", formatted as `style` says; only the mean if there is one value."""
    mean = format(statistics.mean(values), style)
    return mean if len(values) == 1 else f"{mean} ({min(values):{style}} to {max(values):{style}})"


@click.command()
@click.option("--data", required=True, help="As for ddp_numpy.train.")
@click.option("--ranks", default="1,2,3,4", callback=numbers, show_default=True)
@click.option("--seeds", default="1-3", callback=numbers, show_default=True)
def main(data: str, ranks: list[int], seeds: list[int]) -> None:
    """Train the default network for 20 epochs with each number of ranks and each seed, and print a Markdown table."""
    click.echo(f"Mean (lowest to highest) over {len(seeds)} seeds, {seeds[0]} to {seeds[-1]}.\n")
    names = [f"loss, epoch {epoch}" for epoch in _EPOCHS]
    click.echo(f"| ranks | {' | '.join(names)} | validation accuracy | weights differ by at most | images/s |")
    click.echo("| --- " * (len(names) + 4) + "|")
    first_weights: dict[int, np.ndarray] = {}
    for size in ranks:
        losses: list[list[float]] = [[] for _ in _EPOCHS]
        accuracies, speeds, difference = [], [], 0.0
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                metrics, weights = train(data, size, seed, Path(folder))
            reference = first_weights.setdefault(seed, weights)
            difference = max(difference, float(np.abs(weights - reference).max() / np.abs(reference).max()))
            for column, epoch in zip(losses, _EPOCHS, strict=True):
                column.append(metrics[epoch - 1]["train_loss"])
            accuracies.append(metrics[-1]["valid_accuracy"])
            speeds.append(statistics.median(line["images_per_second"] for line in metrics))
        cells = [str(size), *(mean_and_range(column, ".4f") for column in losses)]
        cells += [mean_and_range(accuracies, ".2%"), f"{difference:.1e}", f"{statistics.median(speeds):,.0f}"]
        click.echo(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
