"""A stack of layers over one flat vector of parameters."""

import hashlib
import math
from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Layer, Shape

_PREDICT_ROWS = 1024  # rows that `predict` takes through the layers at a time


class Sequential:
    """Layers applied in turn. All parameters lie in `params`, all gradients in `grads`: two vectors (P,).

    What layers keep besides, and do not train, lies in `buffers` (S,). Layers hold views into all three, so whoever
    sums, updates, hashes or saves the model sees one array.
    """

    params: Array
    grads: Array
    buffers: Array

    def __init__(self, *layers: Layer, dtype: npt.DTypeLike = np.float32) -> None:
        self.layers = layers
        for number, layer in enumerate(layers, 1):
            layer.number = number
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.input_shape: Shape | None = None
        self.output_shape: Shape = ()
        self.input_divisor = 1.0
        """What raw features are divided by before `forward`; `predict` does it itself."""
        self.joins_rows = any(layer.joins_rows for layer in layers)
        """Whether some layer needs all rows of the global batch for the output of one: see Layer."""

    def build(self, input_shape: Shape) -> None:
        """Make `params` and `buffers` (zeros), and the layers' memory for rows of this shape."""
        self.input_shape = shape = input_shape
        self._parameters: list[tuple[Layer, str, Shape]] = []
        buffers: list[tuple[Layer, str, Shape]] = []
        for layer in self.layers:
            self._parameters += [(layer, name, size) for name, size in layer.parameter_shapes(shape).items()]
            buffers += [(layer, name, size) for name, size in layer.buffer_shapes(shape).items()]
            shape = layer.build(shape, self.dtype)
        self.output_shape = shape
        self.params, self.buffers = (
            np.zeros(sum(math.prod(size) for _, _, size in arrays), self.dtype)
            for arrays in (self._parameters, buffers)
        )
        for layer, name, view in (*_views(self._parameters, self.params), *_views(buffers, self.buffers)):
            setattr(layer, name, view)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the first values of all parameters, layer by layer."""
        for layer in self.layers:
            layer.initialize(rng)

    def attach_grads(self, memory: Array) -> None:
        """Let gradients be written into this vector (P,): the caller knows which memory is quickest to sum."""
        self.grads = memory
        for layer, name, view in _views(self._parameters, memory):
            setattr(layer, f"d{name}", view)

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *input_shape), scaled -> logits (B, classes); in shards if X comes in shards."""
        for layer in self.layers:
            X = layer.forward(X, context)
        return X

    def backward(self, dY: Array) -> None:
        """Take dY (B, classes), the gradient at the last forward's logits, back to all layers' outputs."""
        gradient: Array | None = dY
        for layer in reversed(self.layers):
            assert gradient is not None
            gradient = layer.backward(gradient, input_gradient=layer is not self.layers[0])

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Overwrite `grads` with sums over the rows of the last backward: of one shard, or of all."""
        for layer in self.layers:
            layer.write_gradients(shard)

    def predict(self, X: Array) -> Array:
        """The likeliest class (B,) of each row of raw features X (B, *input_shape), as they stand in the data."""
        labels = np.empty(len(X), np.int64)
        for start in range(0, len(X), _PREDICT_ROWS):
            piece = slice(start, start + _PREDICT_ROWS)
            scaled = np.divide(X[piece], self.input_divisor, dtype=self.dtype)
            self.forward(scaled).argmax(axis=1, out=labels[piece])
        return labels

    def digest(self) -> str:
        """SHA-256 of the bytes of parameters and buffers: equal on two ranks if and only if their models are."""
        return hashlib.sha256(self.params.tobytes() + self.buffers.tobytes()).hexdigest()

    def parameter_slices(self) -> dict[str, slice]:
        """By names for people, like "W of layer 1 (Dense)", where in `params` and `grads` each array lies."""
        return {
            f"{name} of layer {layer.number} ({type(layer).__name__})": part
            for (layer, name, _), part in zip(self._parameters, _places(self._parameters), strict=True)
        }

    def description(self) -> dict[str, Any]:
        """The built model without its numbers, as JSON can hold it: two models are alike if these are equal."""
        return {
            "input_shape": list(self.input_shape or ()),
            "input_divisor": self.input_divisor,
            "classes": self.output_shape[0],
            "layers": [{"type": type(layer).__name__, **layer.config()} for layer in self.layers],
        }

    def __str__(self) -> str:
        inputs = [str(math.prod(self.input_shape))] if self.input_shape else []
        return " ".join([*inputs, *map(str, self.layers)])


def _views(arrays: list[tuple[Layer, str, Shape]], memory: Array) -> Iterator[tuple[Layer, str, Array]]:
    """Each layer's array as a view into a vector in which all of them lie one behind the other."""
    for (layer, name, shape), part in zip(arrays, _places(arrays), strict=True):
        yield layer, name, memory[part].reshape(shape)


def _places(arrays: list[tuple[Layer, str, Shape]]) -> Iterator[slice]:
    """Where each array lies in that vector."""
    start = 0
    for _, _, shape in arrays:
        stop = start + math.prod(shape)
        yield slice(start, stop)
        start = stop
