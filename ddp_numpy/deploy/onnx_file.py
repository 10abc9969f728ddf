"""ONNX files of this package's networks: written with all that the network is, and read back."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from ddp_numpy.base.columns import feature_names
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.memory import reading
from ddp_numpy.base.messages import one_line
from ddp_numpy.deploy.onnx_graph import from_onnx_array, parameter, to_onnx_array
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.runs.model_file import description_text, model_described

_MODEL = "ddp_numpy_model"


def metadata(model: Sequential, to_read_back: bool = True) -> dict[str, str]:
    """What goes along with a network's graph: texts, for people and programs that never heard of this package.

    `class_names` and `feature_names` are lists in JSON, in the order of the outputs and inputs. to_read_back: whether
    the graph has all numbers of the network as they are.
    """
    found: dict[str, str] = {}
    if model.target is None:
        found["class_names"] = json.dumps(list(map(str, model.classes)))
    if model.columns:
        found["feature_names"] = json.dumps(list(feature_names(model.columns)))
    found |= {name: str(value) for name, value in model.trained.items() if value is not None}
    return found | ({_MODEL: description_text(model)} if to_read_back else {})


def load_onnx(path: str | Path) -> Sequential:
    """Read a network back that `python -m ddp_numpy.export` wrote, with float32 weights.

    Raises InputError for any other file; nothing in it is run, and no other file is opened that it names.
    """
    path = Path(path)
    with reading(path), open_regular(path) as file:
        data = file.read()
    try:
        read = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's readers raise errors of their own
        raise InputError(f"{path}: damaged, or no ONNX file ({one_line(error)})") from None
    texts = {entry.key: entry.value for entry in read.metadata_props}
    if _MODEL not in texts:
        raise InputError(f"{path}: was not written by this package, or in 8 bits, and can't be read back")
    try:
        return model_described(texts[_MODEL], lambda model: _arrays(model, read))
    except InputError as error:
        raise InputError(f"{path}: holds no network that can be read back: {one_line(error)}") from None


def _arrays(model: Sequential, read: onnx.ModelProto) -> dict[str, Array]:
    """The vectors params and buffers of a built model, as its graph has them."""
    constants = {tensor.name: tensor for tensor in read.graph.initializer}
    for layer, name in model.arrays():
        tensor = constants.get(parameter(layer, name))
        if tensor is None or tensor.data_type != onnx.TensorProto.FLOAT or tensor.external_data:
            raise InputError(f"it has no float32 constant {parameter(layer, name)} in it")
        own: Array = getattr(layer, name)
        if tuple(tensor.dims) != to_onnx_array(layer, name, own).shape:
            raise InputError(f"its constant {parameter(layer, name)} has the shape {tuple(tensor.dims)}")
        try:
            values = numpy_helper.to_array(tensor)
        except Exception as error:  # of sizes that don't fit, for example
            raise InputError(f"its constant {parameter(layer, name)} is damaged: {one_line(error)}") from None
        if not np.isfinite(values).all():
            raise InputError(f"its constant {parameter(layer, name)} holds a number that is not finite")
        own[...] = from_onnx_array(layer, name, values).reshape(own.shape)
    return {"params": model.params, "buffers": model.buffers}
