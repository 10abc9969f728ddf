"""A run's folder, opened without a training, and what lies in it."""

import json
import os
from pathlib import Path

import pytest

from ddp_numpy import Dense, Sequential
from ddp_numpy.runs.folder import RunFolder
from ddp_numpy.runs.resume import Start
from ddp_numpy.settings import Settings
from ddp_numpy.training.metrics import Epoch


def opened(folder: Path, complaints: list[str], start: Start | None = None) -> RunFolder:
    return RunFolder(start or Start(folder), Settings(), {}, {}, 0, complaints.append)


def epoch(number: int, loss: float = 0.5, accuracy: float = 0.9) -> Epoch:
    losses, accuracies = {"train_loss": loss, "valid_loss": loss}, {"train_accuracy": 0.9, "valid_accuracy": accuracy}
    return Epoch(number=number, **losses, **accuracies, lr=0.01, images_per_second=1e5, seconds=0.1)


def model() -> Sequential:
    model = Sequential(Dense(3))
    model.build((4,))
    return model


def lines(folder: Path) -> list[dict[str, float]]:
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def contents(folder: Path) -> dict[str, object]:
    """What lies in a folder, with all that can be seen of it."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }
