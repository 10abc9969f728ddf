"""A network as an ONNX graph: raw features go in, logits and probabilities come out.

Images are (B, H, W, C) in this package and (B, C, H, W) in ONNX's convolutions and pools. So a value in the graph also
says which of the two it is, and is turned only where a layer needs the other.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.scale import Scale
from ddp_numpy.data.dataset import ROUNDING
from ddp_numpy.nn import (
    GELU,
    Array,
    Augment,
    AvgPool2D,
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)
from ddp_numpy.nn.layers import Shape
from ddp_numpy.nn.windows import Windows, windows

OLDEST_OPSET, NEWEST_OPSET = 18, 22
_OPSET_OF_GELU = 20
_IR_VERSIONS = {18: 8, 19: 9, 20: 9, 21: 10, 22: 10}
"""By opset, the oldest form of files that may have it: so the oldest runtimes read them."""


class Value(NamedTuple):
    """What leaves a node."""

    name: str
    shape: Shape
    """Of a row, as this package has it."""
    channels_first: bool = False
    """Whether the graph has it as (B, C, H, W)."""


class Graph:
    """Nodes and constants, as they are added."""

    def __init__(self, folds: bool) -> None:
        """folds: whether what only scales and shifts goes into the convolution or the product before it."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.folds = folds
        self.shared: set[str] = set()
        """Outputs that go to several nodes, so that none of these may change them."""

    def constant(self, name: str, array: Array) -> str:
        """Add an array under this name."""
        self.constants[name] = np.ascontiguousarray(array)
        return name

    def scale_last(self, output: str, gain: Array, shift: Array) -> bool:
        """Let the last node return gain (F,) times what it did, plus shift (F,), if it is one that can."""
        last = self.nodes[-1]
        if not self.folds or last.op_type not in ("Conv", "Gemm") or last.output[0] != output or output in self.shared:
            return False
        W, b = last.input[1:]
        axes = (-1, 1, 1, 1) if last.op_type == "Conv" else (1, -1)
        self.constants[W] = self.constants[W] * gain.reshape(axes)
        self.constants[b] = self.constants[b] * gain + shift
        return True

    def add(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Add a node with one output, and return that output's name."""
        output = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=f"{output}_node", **attributes))
        return output

    def as_images(self, X: Value) -> Value:
        """(B, C, H, W)."""
        return X if X.channels_first else Value(self.add("Transpose", X.name, perm=[0, 3, 1, 2]), X.shape, True)

    def as_rows(self, X: Value) -> Value:
        """As this package has it."""
        return Value(self.add("Transpose", X.name, perm=[0, 2, 3, 1]), X.shape) if X.channels_first else X


def parameter(layer: Layer, name: str) -> str:
    """What a layer's array is called in the graph: "3.W"."""
    return f"{layer.number}.{name}"


def to_onnx_array(layer: Layer, name: str, array: Array) -> Array:
    """A layer's array as the graph has it: the weights of a convolution (F, C / groups, KH, KW)."""
    if isinstance(layer, Conv2D) and name == "W":
        return array.transpose(2, 3, 0, 1).reshape(layer.filters, 1, *layer.kernel) if layer.groups > 1 else (
            array.transpose(3, 2, 0, 1)
        )  # fmt: skip
    return array


def from_onnx_array(layer: Layer, name: str, array: Array) -> Array:
    """The inverse of to_onnx_array."""
    if isinstance(layer, Conv2D) and name == "W":
        if layer.groups > 1:
            return array.reshape(layer.groups, -1, *layer.kernel).transpose(2, 3, 0, 1)
        return array.transpose(2, 3, 1, 0)
    return array


def _array(graph: Graph, layer: Layer, name: str) -> str:
    array = to_onnx_array(layer, name, np.asarray(getattr(layer, name), np.float32))
    return graph.constant(parameter(layer, name), array)


def _elementwise(kind: str) -> Callable[[Graph, Any, Value], Value]:
    def convert(graph: Graph, layer: Layer, X: Value) -> Value:
        return X._replace(name=graph.add(kind, X.name))

    return convert


def _nothing(graph: Graph, layer: Layer, X: Value) -> Value:
    """Of a layer that only does something in training."""
    return X


def _dense(graph: Graph, layer: Dense, X: Value) -> Value:
    W, b = (_array(graph, layer, name) for name in ("W", "b"))
    return Value(graph.add("Gemm", X.name, W, b), layer.output_shape)


def _leaky_relu(graph: Graph, layer: LeakyReLU, X: Value) -> Value:
    return X._replace(name=graph.add("LeakyRelu", X.name, alpha=layer.config()["slope"]))


def _silu(graph: Graph, layer: SiLU, X: Value) -> Value:
    return X._replace(name=graph.add("Mul", X.name, graph.add("Sigmoid", X.name)))


def _gelu(graph: Graph, layer: GELU, X: Value) -> Value:
    form = "tanh" if layer.config()["approximate"] else "none"
    return X._replace(name=graph.add("Gelu", X.name, approximate=form))


def _reshape(graph: Graph, layer: Reshape, X: Value) -> Value:
    shape = graph.constant(parameter(layer, "shape"), np.array([-1, *layer.output_shape], np.int64))
    return Value(graph.add("Reshape", graph.as_rows(X).name, shape), layer.output_shape)


def _residual(graph: Graph, layer: Residual, X: Value) -> Value:
    graph.shared.add(X.name)
    inner, shortcut = (_chain(graph, chain.layers, X) for chain in layer.chains)
    if inner.channels_first != shortcut.channels_first:
        inner, shortcut = graph.as_images(inner), graph.as_images(shortcut)
    return inner._replace(name=graph.add("Add", inner.name, shortcut.name))


def _conv(graph: Graph, layer: Conv2D, X: Value) -> Value:
    there = windows("Conv2D", X.shape, layer.kernel, layer.stride, layer.padding, layer.dilation)
    W, b = (_array(graph, layer, name) for name in ("W", "b"))
    made = graph.add(
        "Conv", graph.as_images(X).name, W, b, kernel_shape=layer.kernel, strides=layer.stride,
        dilations=layer.dilation, group=layer.groups, pads=_pads(there),
    )  # fmt: skip
    return Value(made, layer.output_shape, True)


def _pool(kind: str, **attributes: Any) -> Callable[[Graph, Any, Value], Value]:
    def convert(graph: Graph, layer: Any, X: Value) -> Value:
        there = windows(kind, X.shape, layer.size, layer.stride, layer.padding)
        made = graph.add(
            kind, graph.as_images(X).name, kernel_shape=layer.size, strides=layer.stride, pads=_pads(there),
            **attributes,
        )  # fmt: skip
        return Value(made, layer.output_shape, True)

    return convert


def _global_pool(graph: Graph, layer: GlobalAvgPool, X: Value) -> Value:
    axes = [2, 3] if X.channels_first else [1, 2]
    name = graph.constant(parameter(layer, "axes"), np.array(axes, np.int64))
    return Value(graph.add("ReduceMean", X.name, name, keepdims=0), layer.output_shape)


def _batch_norm(graph: Graph, layer: BatchNorm, X: Value) -> Value:
    gain = layer.gamma / np.sqrt(layer.running_variance + layer.epsilon)
    if graph.scale_last(X.name, gain, layer.beta - layer.running_mean * gain):
        return X
    if len(X.shape) not in (1, 3):
        names = ("gamma", "beta", "running_mean", "running_variance")
        gamma, beta, mean, variance = (_array(graph, layer, name) for name in names)
        epsilon = graph.constant(parameter(layer, "epsilon"), np.array(layer.epsilon, np.float32))
        factor = graph.add("Div", gamma, graph.add("Sqrt", graph.add("Add", variance, epsilon)))
        return X._replace(name=graph.add("Add", graph.add("Mul", graph.add("Sub", X.name, mean), factor), beta))
    arrays = (_array(graph, layer, name) for name in ("gamma", "beta", "running_mean", "running_variance"))
    if len(X.shape) == 3:
        X = graph.as_images(X)
    return X._replace(name=graph.add("BatchNormalization", X.name, *arrays, epsilon=layer.epsilon))


def _layer_norm(graph: Graph, layer: LayerNorm, X: Value) -> Value:
    """In steps: in their LayerNormalization, some runtimes take E[x^2] - E[x]^2, and lose digits."""
    gamma, beta = (_array(graph, layer, name) for name in ("gamma", "beta"))
    axis = graph.constant(parameter(layer, "axis"), np.array([-1], np.int64))
    epsilon = graph.constant(parameter(layer, "epsilon"), np.array(layer.epsilon, np.float32))
    X = graph.as_rows(X)
    centred = graph.add("Sub", X.name, graph.add("ReduceMean", X.name, axis))
    variance = graph.add("ReduceMean", graph.add("Mul", centred, centred), axis)
    normal = graph.add("Div", centred, graph.add("Sqrt", graph.add("Add", variance, epsilon)))
    return X._replace(name=graph.add("Add", graph.add("Mul", normal, gamma), beta))


_CONVERTERS: dict[type[Layer], Callable[[Graph, Any, Value], Value]] = {
    Augment: _nothing,
    AvgPool2D: _pool("AveragePool", count_include_pad=0),
    BatchNorm: _batch_norm,
    Conv2D: _conv,
    Dense: _dense,
    Dropout: _nothing,
    Flatten: _reshape,
    GELU: _gelu,
    GlobalAvgPool: _global_pool,
    LayerNorm: _layer_norm,
    LeakyReLU: _leaky_relu,
    MaxPool2D: _pool("MaxPool"),
    ReLU: _elementwise("Relu"),
    Reshape: _reshape,
    Residual: _residual,
    Sigmoid: _elementwise("Sigmoid"),
    SiLU: _silu,
    Tanh: _elementwise("Tanh"),
}


def _chain(graph: Graph, layers: Sequence[Layer], X: Value) -> Value:
    for layer in layers:
        if type(layer) not in _CONVERTERS:
            raise InputError(
                f"layer {layer.number} ({type(layer).__name__}) is not of this package, so ONNX has no word for it"
            )
        X = _CONVERTERS[type(layer)](graph, layer, X)
    return X


def _pads(there: Windows) -> list[int]:
    """The border's pixels: above, at the left, below and at the right."""
    after = [there.padded[axis] - there.inputs[axis] - there.before[axis] for axis in range(2)]
    return [*there.before, *after]


def to_onnx(
    model: Sequential, metadata: dict[str, str], opset: int | None = None, folds: bool = False
) -> onnx.ModelProto:
    """The built model with its scaling; any number of rows at a time. metadata: goes along.

    Its input is `features` (rows, *input_shape), raw, float32; float64 if float32 could not tell the values of a
    feature apart. Its outputs are `logits` and `probabilities` (rows, classes), or `predictions` (rows,), as the labels
    were. opset: of the operators; by default 18, or 20 if a layer needs that. folds: whether batch normalization goes
    into the layer before it; then the graph can't be read back. Raises InputError for another opset than
    18 to 22, for one that has no operator for a layer, and for layers of others.
    """
    has_gelu = any(isinstance(layer, GELU) for layer in model.all_layers)
    opset = opset or (_OPSET_OF_GELU if has_gelu else OLDEST_OPSET)
    if opset not in _IR_VERSIONS:
        raise InputError(f"opset {opset}: must be from {OLDEST_OPSET} to {NEWEST_OPSET}")
    if has_gelu and opset < _OPSET_OF_GELU:
        raise InputError(f"opset {opset} has no GELU; take {_OPSET_OF_GELU}")
    shape = model.input_shape or ()
    graph = Graph(folds)
    wide = _needs_double(model.scale)
    X = _chain(graph, model.layers, _scaled(graph, model.scale, Value("features", shape), wide))
    logits = graph.as_rows(X).name
    if model.target is None:
        graph.add("Identity", logits, name="logits")
        graph.add("Softmax", logits, name="probabilities", axis=-1)
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", *model.output_shape])
            for name in ("logits", "probabilities")
        ]
    else:
        divisor, shift = (
            graph.constant(f"target.{name}", np.array(getattr(model.target, name), np.float64))
            for name in ("divisor", "shift")
        )
        double = graph.add("Cast", logits, to=TensorProto.DOUBLE)
        numbers = graph.add("Add", graph.add("Mul", double, divisor), shift)
        axis = graph.constant("target.axis", np.array([1], np.int64))
        graph.add("Squeeze", numbers, axis, name="predictions")
        outputs = [helper.make_tensor_value_info("predictions", TensorProto.DOUBLE, ["rows"])]
    kind = TensorProto.DOUBLE if wide else TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("features", kind, ["rows", *shape])]
    constants = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    made = helper.make_model(
        helper.make_graph(graph.nodes, "network", inputs, outputs, constants),
        opset_imports=[helper.make_opsetid("", opset)], ir_version=_IR_VERSIONS[opset], producer_name="ddp_numpy",
    )  # fmt: skip
    helper.set_model_props(made, metadata)
    return made


def _needs_double(scale: Scale) -> bool:
    return scale.shift is not None and bool((np.abs(scale.shift) > ROUNDING * np.asarray(scale.divisor)).any())


def _scaled(graph: Graph, scale: Scale, X: Value, wide: bool) -> Value:
    """What `Scaler` makes of raw features."""
    name = X.name
    if scale.shift is not None:
        shift = np.asarray(scale.shift, np.float64 if wide else np.float32).reshape(X.shape)
        name = graph.add("Sub", name, graph.constant("scale.shift", shift))
        if wide:
            name = graph.add("Cast", name, to=TensorProto.FLOAT)
    factor = np.asarray(1 / np.asarray(scale.divisor), np.float32)
    if factor.ndim:
        factor = factor.reshape(X.shape)
    return X._replace(name=graph.add("Mul", name, graph.constant("scale.factor", factor)))
