"""One checkpoint: how far training has come, as a .npz file with the name, size and checksum of each part."""

import dataclasses
import json
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError

Array = npt.NDArray[Any]

_FORMAT = "ddp_numpy checkpoint 1"
_FACTS = "checkpoint"  # the member of the .npz that describes the others

# What the readers of zip, .npy and JSON may raise if bytes of a file were altered. An altered byte can be anything to
# them, for example a size or a compression method, so there are many kinds.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip


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
        "format": _FORMAT,
        "epoch": snapshot.epoch,
        "step": snapshot.step,
        "facts": snapshot.facts,
        "arrays": list(snapshot.arrays),
    }
    members: dict[str, Any] = {_FACTS: np.array(json.dumps(description)), **snapshot.arrays}
    np.savez(file, **members)


def read_snapshot(path: Path) -> Snapshot:
    """Read a checkpoint. Never unpickles. Raises InputError if the file is incomplete, altered or not a checkpoint."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as members:
            description = json.loads(str(members[_FACTS]))
            if description["format"] != _FORMAT:
                raise InputError(f"{path}: has the format {description['format']!r}; this version reads {_FORMAT!r}")
            arrays = {name: members[name] for name in description["arrays"]}
        return Snapshot(description["epoch"], description["step"], arrays, description["facts"])
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except _DAMAGE as error:
        raise InputError(f"{path}: damaged, or not a checkpoint of this package ({error})") from error
