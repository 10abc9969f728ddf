"""Model files: one .npz that describes itself. It is written completely or not at all, and read without unpickling."""

import json
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ddp_numpy.base.columns import Column, feature_names
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.scale import Scale
from ddp_numpy.base.schema import check
from ddp_numpy.nn import LAYERS, Layer, Sequential
from ddp_numpy.runs.formats import CHECKPOINT, MODEL, described, read
from ddp_numpy.runs.marker import CHECKPOINTS
from ddp_numpy.runs.marker import MODEL as MODEL_NAME

_DEEPEST = 16  # that layers may stand within layers: a stranger's file could nest them until Python gives up


def save_model(model: Sequential, path: str | Path) -> None:
    """Write a built model to a .npz: `params` (P,), `buffers` (S,) if it has any, and its description as JSON.

    Raises InputError if the file can't be written. An older file of that name then stays as it was.
    """
    with writing(Path(path)), atomic_write(Path(path)) as file:
        write_model(file, model)


def write_model(file: BinaryIO, model: Sequential) -> None:
    """Write a built model to an open file, as `save_model` does. Raises OSError."""
    arrays: dict[str, Any] = {"params": model.params}
    if model.buffers.size:
        arrays["buffers"] = model.buffers
    np.savez(file, model=np.array(description_text(model)), **arrays)


def description_text(model: Sequential) -> str:
    """All of a built model but its numbers, as JSON: `model_described` takes it back."""
    trained = {"trained": model.trained} if model.trained else {}
    return json.dumps({"format": MODEL.name, **model.description(), **trained})


def model_described(text: str, make_arrays: Callable[[Sequential], dict[str, Any]]) -> Sequential:
    """The model of a text from `description_text`. make_arrays: from it, built, to its params and buffers.

    Raises InputError if they don't fit, and for any other text.
    """
    description = described(text, MODEL)
    layers = [_make_layer(f"layer {n}", layer, LAYERS) for n, layer in enumerate(description["layers"], 1)]
    model = Sequential(*layers)
    model.build(tuple(description["input_shape"]))
    return _make(description, make_arrays(model), LAYERS)


def load_model(path: str | Path, layers: Iterable[type[Layer]] = ()) -> Sequential:
    """Read a model that `save_model` wrote, or that of a checkpoint; it can predict or be trained on.

    path: the file, or a run's folder with its model.npz.
    layers: the classes of your own that stand in the model. A file names the classes of its layers, and only these
    classes and the package's own are taken: nothing is imported. Raises InputError for any other file.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / MODEL_NAME).exists():
            raise InputError(
                f"{path}: a folder without a {MODEL_NAME}, which a run writes at its end; before that, give one of its "
                f"{CHECKPOINTS}"
            )
        path /= MODEL_NAME
    found, description, arrays = read(path, MODEL, CHECKPOINT)
    try:
        if found is CHECKPOINT:
            trained = {name: description[name] for name in ("epoch", "step")}
            rows = description["facts"].get("trajectory", {}).get("SHA-256 of the training rows")
            if isinstance(rows, str):
                trained["data_sha256"] = rows
            description = {**_described_in(description["facts"]), "trained": trained}
        return _make(description, arrays, LAYERS | {layer.__name__: layer for layer in layers})
    except InputError as error:
        raise InputError(f"{path}: holds no model that can be loaded: {one_line(error)}") from error


def _make(description: dict[str, Any], arrays: dict[str, Any], known: dict[str, type[Layer]]) -> Sequential:
    """The described model with these params (P,) and buffers (S,). Raises InputError if they don't fit."""
    # Of a checkpoint, the averages if there are any: these were validated.
    params = arrays.get("average.params", arrays["params"])
    buffers = arrays.get("average.buffers", arrays.get("buffers", np.zeros(0, params.dtype)))
    layers = [_make_layer(f"layer {n}", layer, known) for n, layer in enumerate(description["layers"], 1)]
    model = Sequential(*layers, dtype=params.dtype)
    model.build(tuple(description["input_shape"]), params, buffers)
    if model.output_shape != (description["classes"],):
        raise InputError(f"its layers return {model.output_shape}, and it says {description['classes']} classes")
    model.scale = Scale.of(description, math.prod(model.input_shape or ()))
    model.class_names = tuple(description.get("class_names", ()))
    model.label, model.trained = description.get("label", ""), description.get("trained", {})
    model.columns = tuple(map(Column.of, description.get("columns", ())))
    features = len(feature_names(model.columns))
    if model.columns and features != math.prod(model.input_shape or ()):
        raise InputError(
            f"its {len(model.columns)} columns are {features} features, and its inputs {model.input_shape}"
        )
    if "target" in description:
        if description["classes"] != 1:
            raise InputError(f"target is of one number, and it says {description['classes']} classes")
        model.target = Scale.of_one(description["target"])
    if model.class_names and len(set(model.class_names)) != description["classes"]:
        raise InputError(f"class_names must be {description['classes']} different ones")
    return model


def _make_layer(place: str, description: Any, known: dict[str, type[Layer]], depth: int = 0) -> Layer:
    """The described layer. place: for people; depth: how many layers it stands within."""
    check(description, {"type": str, ...: object}, place)
    arguments = description.copy()
    name = arguments.pop("type")
    if name not in known:
        raise InputError(
            f"{place} is of the class {name!r}, which is not of this package; if it is your own, pass it: "
            "load_model(path, layers=[…]), or --model-file FILE.py"
        )
    if depth > _DEEPEST:
        raise InputError(f"{place}: layers stand within layers more than {_DEEPEST} deep")

    def make_inner(inner: Any) -> Layer:
        return _make_layer(f"a layer within {place.removeprefix('a layer within ')}", inner, known, depth + 1)

    try:
        return known[name].from_config(arguments, make_inner)
    except (TypeError, ValueError) as error:  # of a constructor that does not have these arguments
        raise InputError(f"{place} ({name}) can't be made: {error}") from error


def _described_in(facts: dict[str, Any]) -> dict[str, Any]:
    """The model's description in the facts of a checkpoint. Raises InputError if they have none."""
    model, divisor = (facts.get(part, {}).get(name) for part, name in (("trajectory", "model"), ("options", "divisor")))
    if isinstance(model, dict):
        return model
    # Earlier versions kept a model's words: "12 -> 8 ReLU -> 4". What features are divided by is not among them.
    words = re.fullmatch(r"([0-9]{1,9})((?: -> [0-9]{1,9} ReLU)*) -> ([0-9]{1,9})", str(model))
    if words is None or divisor is None:
        raise InputError(
            "its version did not note all of the model; go on with the run, and load its model.npz or a new checkpoint"
        )
    inputs, classes = int(words[1]), int(words[3])
    layers: list[dict[str, Any]] = []
    for width in re.findall("[0-9]+", words[2]):
        layers += [{"type": "Dense", "outputs": int(width)}, {"type": "ReLU"}]
    layers.append({"type": "Dense", "outputs": classes})
    described = {"input_shape": [inputs], "input_divisor": divisor, "classes": classes, "layers": layers}
    check(described, MODEL.schema, "model")
    return described
