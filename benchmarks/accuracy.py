"""Prints the README's table of accuracies: networks trained on the whole of MNIST, with several seeds.

python -m benchmarks.accuracy --data mnist --preset "cnn, 1 epoch" --seeds 1-5

Of the 60,000 training images 5,000 are held out, to choose settings by. The 10,000 test images are looked at once, by
the model of the last epoch.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np

from benchmarks.results import mean_and_range, numbers
from ddp_numpy import Dataset, SingleProcess, load_data, load_model

HELD_OUT = 5_000
_ADAM = "--optimizer adamw --schedule one-cycle"
_NESTEROV = "--optimizer sgd --momentum 0.9 --nesterov"
_LARGE = "--label-smoothing 0.1 --schedule one-cycle --epochs 90"
_AFFINE = "--augment-rotation 10 --augment-scale 0.1 --augment-shear 0.1"
PRESETS = {
    "mlp, dropout": f"--hidden 1000,500,250,250,250 --batch-norm --input-dropout 0.2 --dropout 0.1 {_ADAM} --lr 0.002 "
    "--label-smoothing 0.05 --batch-size 128 --epochs 100",
    "mlp, elastic": f"--hidden 1024,1024 --dropout 0.1 {_ADAM} --lr 0.001 --label-smoothing 0.05 --batch-size 128 "
    f"--epochs 100 --augment-shift 1.5 {_AFFINE} --augment-elastic 0.7",
    "cnn, 1 epoch": f"--model cnn {_ADAM} --lr 0.004 --label-smoothing 0.05 --batch-size 64 --epochs 1",
    "cnn, augmented": f"--model cnn --batch-norm --dropout 0.2 {_ADAM} --lr 0.004 --label-smoothing 0.05 "
    f"--batch-size 64 --epochs 15 --augment-shift 1.5 {_AFFINE}",
    "tiny": f"--model tiny {_ADAM} --lr 0.01 --batch-size 64 --epochs 15 --augment-shift 1 --augment-rotation 5",
    "batch 64, Nesterov": f"{_LARGE} {_NESTEROV} --batch-size 64 --lr 0.1 --weight-decay 0.0001",
    "batch 4096, Nesterov": f"{_LARGE} {_NESTEROV} --batch-size 4096 --lr 1 --clip-norm 0.3 --weight-decay 0.0005",
    "batch 4096, LARS": f"{_LARGE} --optimizer lars --batch-size 4096 --lr 18 --weight-decay 0.0001",
    "batch 4096, LAMB": f"{_LARGE} --optimizer lamb --batch-size 4096 --lr 0.03 --weight-decay 0.3",
    "batch 8192, Nesterov": f"{_LARGE} --optimizer sgd --momentum 0.95 --nesterov --batch-size 8192 --lr 1.5 "
    "--clip-norm 0.3 --weight-decay 0.0005",
    "batch 8192, LARS": f"{_LARGE} --optimizer lars --batch-size 8192 --lr 18 --weight-decay 0.0001",
    "batch 8192, LAMB": f"{_LARGE} --optimizer lamb --batch-size 8192 --lr 0.03 --weight-decay 0.3",
}
"""By name, the options of training."""


def train(options: list[str], data: Path, ranks: int, seed: int, folder: Path) -> dict[str, float]:
    """Train one job; returns the figures of its last epoch."""
    command = [sys.executable, "-m", "launch", "run", "-n", str(ranks), "--quiet", "--data", str(data), *options]
    command += ["--valid-fraction", str(HELD_OUT / 60_000), "--seed", str(seed), "--keep", "1", "--out", str(folder)]
    subprocess.run(command, check=True)
    found: dict[str, float] = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    return found


def test_accuracy(model: Path, test: Dataset) -> float:
    """The share of test images that a trained model classifies right."""
    return float((load_model(model).predict(test.features) == test.labels).mean())


@click.command()
@click.option("--data", default="mnist", show_default=True, help="MNIST: a folder of its four files, or downloaded.")
@click.option("--preset", "presets", multiple=True, type=click.Choice(list(PRESETS)), help="By default all.")
@click.option("--ranks", type=click.IntRange(min=1), default=2, show_default=True)
@click.option("--seeds", default="1-5", callback=numbers, show_default=True)
@click.option("--options", default="", help="More options of training, to try.")
@click.option("--test/--no-test", default=True, help="Whether to look at the test images.")
def main(data: str, presets: tuple[str, ...], ranks: int, seeds: list[int], options: str, test: bool) -> None:
    """Train each preset with each seed on so many ranks, and print a Markdown table of accuracies."""
    train_data, test_data = load_data(data, SingleProcess())
    click.echo(f"Mean (lowest to highest) over {len(seeds)} seeds, {seeds[0]} to {seeds[-1]}, on {ranks} ranks.\n")
    click.echo("| preset | options | test accuracy | held-out accuracy | minutes |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "train.npz"
        np.savez(rows, X=train_data.features, y=train_data.labels)
        for preset in presets or PRESETS:
            words = f"{PRESETS[preset]} {options}".split()
            found: dict[str, list[float]] = {"test": [], "held out": [], "minutes": []}
            for seed in seeds:
                run = Path(folder) / f"{preset}-{seed}"
                last = train(words, rows, ranks, seed, run)
                found["held out"].append(last["valid_accuracy"])
                metrics = (run / "metrics.jsonl").read_text().splitlines()
                found["minutes"].append(sum(json.loads(line)["seconds"] for line in metrics) / 60)
                if test:
                    found["test"].append(test_accuracy(run / "model.npz", test_data))
            cells = [mean_and_range(found[name], ".2%") if found[name] else "–" for name in ("test", "held out")]
            cells.append(mean_and_range(found["minutes"], ".1f"))
            click.echo(f"| {preset} | `{' '.join(words)}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
