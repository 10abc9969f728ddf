"""The page that reads digits as they are drawn: its files, with a network and the steps of its training in them.

The network runs in the page, so any server of files can hand it out, and none is needed once a browser has it.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ddp_numpy.base.columns import are_plain
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.deploy.handwriting import SIDE
from ddp_numpy.nn import LAYERS, Layer, Sequential
from ddp_numpy.runs.marker import CHECKPOINTS, MODEL
from ddp_numpy.runs.metrics import metrics_by_epoch
from ddp_numpy.runs.model_file import load_model
from ddp_numpy.runs.store import checkpoints_by_step

_PAGE = Path(__file__).with_name("page")
BUNDLED_RUN = Path(__file__).with_name("bundled")
"""The run of a small network that comes with the package: docs/drawing.md says how it was trained."""
_NETWORK, _WORKER = "network.json", "worker.js"
_FORMAT = "ddp_numpy page 1"
_MADE = ("weights-*.bin", "step-*.onnx")
"""Names of files of which another network may need fewer."""


class Runtime(NamedTuple):
    """What the page runs beside its own network."""

    files: dict[str, bytes]
    """Of onnxruntime-web, by name."""
    graphs: Sequence[bytes]
    """The network as ONNX, of each step."""


class Step(NamedTuple):
    """A network as it was at some time of its training."""

    name: str
    model: Sequential


def read_steps(weights: Path, layers: Iterable[type[Layer]] = ()) -> list[Step]:
    """The network of a file; or of a run's folder, as it was at each checkpoint that is there, the newest last.

    layers: the classes of one's own, see load_model. Raises InputError for what is no network.
    """
    steps: list[Step] = []
    if weights.is_dir():
        accuracies = metrics_by_epoch(weights, "valid_accuracy")
        for path in checkpoints_by_step(weights / CHECKPOINTS).values():
            model = load_model(path, layers)
            epoch, step = (model.trained.get(name, 0) for name in ("epoch", "step"))
            parts = [f"epoch {epoch}"] * bool(epoch) + [f"{step:,} steps"] * bool(step)
            steps.append(Step(_named(f"After {' and '.join(parts)}", None if step else accuracies.get(epoch)), model))
    if not steps or (weights / MODEL).exists():
        model = load_model(weights, layers)
        if not steps or steps[-1].model.digest() != model.digest():
            steps.append(Step(_named("At the end", model.trained.get("valid_accuracy")), model))
    return steps


def _named(time: str, accuracy: float | None) -> str:
    return time if accuracy is None else f"{time}: reads {accuracy:.2%} of the validation rows right"


def why_not_drawn(model: Sequential) -> str | None:
    """Why the page can't show this network; None if it can."""
    if model.target is not None:
        return "the model predicts numbers, and has no classes to show"
    if (inputs := math.prod(model.input_shape or ())) != SIDE**2 or not are_plain(model.columns):
        return f"the model takes {inputs:,} features, and a drawing becomes {SIDE} x {SIDE} pixels"
    if own := {type(layer).__name__ for layer in model.all_layers} - LAYERS.keys():
        return f"the page has no layer {min(own)!r}: it knows those of the package"
    return None


def page_files(steps: Sequence[Step], runtime: Runtime | None = None) -> dict[str, bytes]:
    """The page's files by name."""
    model = steps[-1].model
    files = {path.name: path.read_bytes() for path in sorted(_PAGE.iterdir()) if path.is_file()}
    told = []
    for number, step in enumerate(steps):
        entry = {"name": step.name, "weights": f"weights-{number}.bin"}
        files[entry["weights"]] = np.concatenate([step.model.params, step.model.buffers]).astype("<f4").tobytes()
        if runtime:
            entry["onnx"] = f"step-{number}.onnx"
            files[entry["onnx"]] = runtime.graphs[number]
        told.append(entry)
    network = {
        "format": _FORMAT,
        "about": _about(model),
        "model": {**model.description(), "parameters": model.params.size},
        "classes": list(map(str, model.classes)),
        "layers": list(map(str, model.layers)),
        "steps": told,
    }
    files[_NETWORK] = json.dumps(network).encode()
    # What the browser keeps from the first visit on; the runtime is large, so it is kept once it was used.
    kept = sorted({"./", *files} - {_WORKER})
    digest = hashlib.sha256(b"".join(files[name] for name in kept[1:])).hexdigest()
    worker = files[_WORKER].decode()
    for line, value in (('const NAME = "page";', f"page-{digest[:16]}"), ("const FILES = [];", kept)):
        assert line in worker
        worker = worker.replace(line, f"{line[: line.index('=')]}= {json.dumps(value)};")
    files[_WORKER] = worker.encode()
    if runtime:
        files |= {f"onnxruntime/{name}": data for name, data in runtime.files.items()}
    return files


def _about(model: Sequential) -> str:
    return (
        f"A neural network of {model.params.size:,} parameters reads it while you draw. It runs in this page, and what "
        "you draw stays here."
    )


def write_page(files: dict[str, bytes], folder: Path) -> None:
    """Write the page's files to a folder: a new one, an empty one, or one that has such a page already.

    Other files of the folder stay. Raises InputError for any other folder, and if they can't be written.
    """
    with writing(folder):
        if folder.exists() and any(folder.iterdir()) and not _is_page(folder):
            raise InputError(f"{folder}: has files in it, and no page of this package; choose another folder")
        # What tells that it is a page comes first: if this is killed half-way, it can be done again.
        for name, data in sorted(files.items(), key=lambda item: item[0] != _NETWORK):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(data)
        for pattern in _MADE:
            for path in folder.glob(pattern):
                if path.name not in files:
                    path.unlink()


def _is_page(folder: Path) -> bool:
    try:
        return bool(json.loads((folder / _NETWORK).read_bytes())["format"] == _FORMAT)
    except (OSError, ValueError, TypeError, KeyError):
        return False
