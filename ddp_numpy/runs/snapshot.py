"""One checkpoint: where training stands, as a .npz that names, sizes and checksums what is in it."""

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

# What the readers of zip, .npy and JSON raise at altered bytes: each may mean anything to them, a size or a method too.
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, struct.error, ArithmeticError, AttributeError, EOFError, LookupError, MemoryError,
    RuntimeError, SyntaxError, TypeError, ValueError,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """Where training stands."""

    epoch: int
    """Epochs trained."""
    step: int
    """Steps made of the next epoch."""
    arrays: dict[str, Array]
    """By name, as Trainer.state gives them."""
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What JSON can hold: the options and the data of the run, for whoever goes on with it."""


def write_snapshot(file: BinaryIO, snapshot: Snapshot) -> None:
    """Write a checkpoint. Its .npz has a CRC-32 of each array, which reading checks."""
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
    """The checkpoint in a file. Never unpickles. Raises InputError for a torn, altered or foreign file."""
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
