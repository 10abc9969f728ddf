"""One checkpoint: how far training has come, as a .npz file with the name, size and checksum of each part."""

import dataclasses
import json
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ddp_numpy.runs.formats import CHECKPOINT, read

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """How far training has come, and all that is needed to resume it."""

    epoch: int
    """How many epochs are complete."""
    step: int
    """How many steps of the next epoch were made."""
    arrays: dict[str, Array]
    """By name, as Trainer.state returns them."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Values that JSON can hold: the options and the data of the run. A resumed run compares its own with them."""


def write_snapshot(file: BinaryIO, snapshot: Snapshot) -> None:
    """Write a checkpoint. The .npz has a CRC-32 of each array, which is checked when the checkpoint is read."""
    description = {
        "format": CHECKPOINT.name,
        "epoch": snapshot.epoch,
        "step": snapshot.step,
        "facts": snapshot.facts,
        "arrays": list(snapshot.arrays),
    }
    members: dict[str, Any] = {CHECKPOINT.member: np.array(json.dumps(description)), **snapshot.arrays}
    np.savez(file, **members)


def read_snapshot(path: Path) -> Snapshot:
    """Read a checkpoint. Never unpickles. Raises InputError if the file is incomplete, altered or not a checkpoint."""
    _, description, arrays = read(path, CHECKPOINT)
    return Snapshot(description["epoch"], description["step"], arrays, description["facts"])
