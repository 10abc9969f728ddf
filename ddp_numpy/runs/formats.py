"""What model files and checkpoints hold, and how they are read: as if each byte came from a stranger.

Each is a .npz of arrays, one of which is text: a description of the others as JSON. The schemas here say what
descriptions are allowed. The options in a checkpoint are checked when a run takes them over, by settings.OPTIONS, just
as those of a config.toml are.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.archive import Damaged, read_arrays
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.schema import Real, Schema, Whole, check, from_json

Array = npt.NDArray[Any]

_LARGEST = sys.float_info.max
_DIVISOR = Real(sys.float_info.min, _LARGEST)
_PLAIN = (str, bool, Real(-_LARGEST, _LARGEST))

_COLUMN = {"name": str, "categories?": [str], "fill?": Real(-_LARGEST, _LARGEST), "indicator?": bool}
_MODEL: dict[Any, Schema] = {
    "input_shape": [Whole(1)],
    "input_divisor": (_DIVISOR, [_DIVISOR]),  # of all features, or of each
    "input_shift?": [Real(-_LARGEST, _LARGEST)],
    "input_scale?": str,
    "classes": Whole(1),
    "target?": {"shift": Real(-_LARGEST, _LARGEST), "divisor": _DIVISOR},  # of numbers to predict
    "columns?": [(str, _COLUMN)],  # by its name alone, if it is one feature that is never missing
    "label?": str,  # what its column was called
    "class_names?": [(str, bool, Whole(-(2**63), 2**64))],
    "trained?": {  # of the run that ended with it
        "data_sha256?": str,
        "epoch?": Whole(),  # of a checkpoint
        "step?": Whole(),
        "version?": (str, None),
        "valid_accuracy?": Real(0, 1),
        "valid_r2?": Real(-_LARGEST, 1),
    },
    "layers": [{"type": str, ...: object}],  # the layers' constructors check the rest
}
_OVERRIDE = {"epoch": Whole(), "step": Whole(), "option": str, "was": (*_PLAIN, None), "now": _PLAIN}
_FACTS = {  # a run needs the first four, and a checkpoint that a script wrote may have none
    "options?": {...: (*_PLAIN, [_PLAIN])},
    "best?": (None, {"epoch": Whole(1), "valid_accuracy?": Real(0, 1), "valid_r2?": Real(-_LARGEST, 1)}),
    "trajectory?": {"model?": (str, _MODEL), ...: (*_PLAIN, None)},
    "blas?": str,
    "overrides?": [_OVERRIDE],
    ...: object,  # of later versions
}


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    name: str
    """With the version in it, as its description has it."""
    member: str
    """The array of the .npz that is the description."""
    schema: dict[Any, Schema]


MODEL = Format("ddp_numpy model 1", "model", _MODEL)
CHECKPOINT = Format(
    "ddp_numpy checkpoint 1", "checkpoint", {"epoch": Whole(), "step": Whole(), "facts": _FACTS, "arrays": [str]}
)


def read(path: Path, *formats: Format) -> tuple[Format, dict[str, Any], dict[str, Array]]:
    """The format of a file, which is one of these; its description; and its other arrays: numbers, all of them finite.

    Raises InputError, with the path in it, for a file that can't be read, is damaged or does not have the format.
    """
    try:
        arrays = read_arrays(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except Damaged as error:
        raise _damaged(path, formats, error) from error
    try:
        found = next((kind for kind in formats if kind.member in arrays), None)
        if found is None:
            raise InputError(f"has no array {' or '.join(kind.member for kind in formats)}")
        description = _describe(arrays.pop(found.member), found)
        arrays = {name: _numbers(name, array) for name, array in arrays.items()}
        named = description.get("arrays", ["params", *({"buffers"} & arrays.keys())])
        if sorted(arrays) != sorted(named):
            raise InputError(f"it has the arrays {', '.join(arrays) or 'none'}, and must have {', '.join(named)}")
        if "params" not in arrays or arrays["params"].ndim != 1 or arrays["params"].dtype.kind != "f":
            raise InputError("it has no vector of floating-point numbers, params")
        return found, description, arrays
    except InputError as error:
        raise _damaged(path, formats, error) from error


def _damaged(path: Path, formats: tuple[Format, ...], why: Exception) -> InputError:
    kinds = " or ".join(kind.member for kind in formats)
    return InputError(f"{path}: damaged, or not a {kinds} of this package ({one_line(why)})")


def _describe(text: Array, kind: Format) -> dict[str, Any]:
    """The description that an array has. Raises InputError if it does not have the format's schema."""
    # NumPy would make a string of any numbers, and Python fails on those that are no letter's.
    native = text.astype(text.dtype.newbyteorder("="), copy=False).reshape(-1)
    if text.dtype.kind != "U" or text.shape or native.view(np.uint32).max() > sys.maxunicode:
        raise InputError(f"the array {kind.member} is not a text")
    return described(str(native[0]), kind)


def described(text: str, kind: Format) -> dict[str, Any]:
    """The description that a text is, as JSON. Raises InputError if it does not have the format's schema."""
    description: dict[str, Any] = from_json(text)
    check(description, {"format": str, ...: object}, kind.member)
    if description["format"] != kind.name:
        raise InputError(f"has the format {description['format']!r}; this version reads {kind.name!r}")
    check(description, {"format": str, **kind.schema}, kind.member)
    return description


def _numbers(name: str, array: Array) -> Array:
    """The array in this machine's order of bytes. Raises InputError unless it holds finite numbers."""
    if array.dtype.kind not in "iufb":
        raise InputError(f"the array {name} holds {array.dtype}, not numbers")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"the array {name} holds a number that is not finite")
    return array.astype(array.dtype.newbyteorder("="), copy=False)
