"""Model files: one .npz that describes itself. It is written completely or not at all, and read without unpickling."""

import json
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write
from ddp_numpy.nn import LAYERS, Sequential

_FORMAT = "ddp_numpy model 1"


def save_model(model: Sequential, path: str | Path) -> None:
    """Write a built model to a .npz: `params` (P,), `buffers` (S,) if it has any, and its description as JSON.

    Raises InputError if the file can't be written. An older file of that name then stays as it was.
    """
    try:
        with atomic_write(Path(path)) as file:
            write_model(file, model)
    except OSError as error:
        raise InputError(f"{path}: can't write: {error.strerror or error}") from error


def write_model(file: BinaryIO, model: Sequential) -> None:
    """Write a built model to an open file, as `save_model` does. Raises OSError."""
    arrays: dict[str, Any] = {"params": model.params}
    if model.buffers.size:
        arrays["buffers"] = model.buffers
    np.savez(file, model=np.array(json.dumps({"format": _FORMAT, **model.description()})), **arrays)


def load_model(path: str | Path) -> Sequential:
    """Read a model that `save_model` wrote; it can predict or be trained on. Raises InputError for any other file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            description, params = json.loads(str(arrays["model"])), arrays["params"]
            buffers = arrays.get("buffers")
        if description["format"] != _FORMAT:
            raise InputError(f"{path}: has the format {description['format']!r}; this version reads {_FORMAT!r}")
        layers = [LAYERS[config.pop("type")](**config) for config in description["layers"]]
        model = Sequential(*layers, dtype=params.dtype)
        model.build(tuple(description["input_shape"]))
        model.params[...] = params
        if buffers is not None:
            model.buffers[...] = buffers
        model.input_divisor = description["input_divisor"]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, AttributeError) as error:
        raise InputError(f"{path}: not a model file of this package, or a damaged one ({error})") from error
    return model
