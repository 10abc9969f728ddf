"""A stack of layers over one flat vector of parameters."""

import hashlib
import math
from collections.abc import Iterator
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.nn.layers import Array, Layer, Shape

_PREDICT_ROWS = 1024  # rows that `predict` takes through the layers at a time


class Sequential:
    """Layers applied in turn. All parameters lie in `params`, all gradients in `grads`: two vectors (P,).

    Layers hold views into both, so whoever sums, updates, hashes or saves the model sees one array.
    """

    params: Array
    grads: Array

    def __init__(self, *layers: Layer, dtype: npt.DTypeLike = np.float32) -> None:
        self.layers = layers
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.input_shape: Shape | None = None
        self.output_shape: Shape = ()
        self.input_divisor = 1.0
        """What raw features are divided by before `forward`; `predict` does it itself."""

    def build(self, input_shape: Shape) -> None:
        """Make `params` (zeros) and the buffers for rows of this shape."""
        self.input_shape = shape = input_shape
        self._parameters: list[tuple[Layer, str, Shape]] = []
        for layer in self.layers:
            self._parameters += [(layer, name, size) for name, size in layer.parameter_shapes(shape).items()]
            shape = layer.build(shape, self.dtype)
        self.output_shape = shape
        self.params = np.zeros(sum(math.prod(size) for _, _, size in self._parameters), self.dtype)
        for layer, name, view in self._views(self.params):
            setattr(layer, name, view)

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the first values of all parameters, layer by layer."""
        for layer in self.layers:
            layer.initialize(rng)

    def attach_grads(self, memory: Array) -> None:
        """Let gradients be written into this vector (P,): the caller knows which memory is quickest to sum."""
        self.grads = memory
        for layer, name, view in self._views(memory):
            setattr(layer, f"d{name}", view)

    def forward(self, X: Array, training: bool = False) -> Array:
        """X (B, *input_shape), scaled -> logits (B, classes); in shards where X comes in shards."""
        for layer in self.layers:
            X = layer.forward(X, training)
        return X

    def backward(self, dY: Array) -> None:
        """Take dY (B, classes), the gradient at the last forward's logits, back to all layers' outputs."""
        gradient: Array | None = dY
        for layer in reversed(self.layers):
            assert gradient is not None
            gradient = layer.backward(gradient, input_gradient=layer is not self.layers[0])

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Overwrite `grads` with sums over the rows of the last backward: one shard's, or all where there are none."""
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
        """SHA-256 of the parameters' bytes: equal on two ranks if and only if their weights are."""
        return hashlib.sha256(self.params.tobytes()).hexdigest()

    def parameter_slices(self) -> dict[str, slice]:
        """By names for people, like "W of layer 1 (Dense)", where in `params` and `grads` each array lies."""
        numbers = {id(layer): number for number, layer in enumerate(self.layers, 1)}
        slices, start = {}, 0
        for layer, name, shape in self._parameters:
            stop = start + math.prod(shape)
            slices[f"{name} of layer {numbers[id(layer)]} ({type(layer).__name__})"] = slice(start, stop)
            start = stop
        return slices

    def __str__(self) -> str:
        words = [str(math.prod(self.input_shape))] if self.input_shape else []
        for layer in self.layers:
            config = layer.config()
            if "outputs" in config:
                words += ["->", str(config["outputs"])]
            else:
                words.append(type(layer).__name__)
        return " ".join(words)

    def _views(self, memory: Array) -> Iterator[tuple[Layer, str, Array]]:
        for (layer, name, shape), part in zip(self._parameters, self.parameter_slices().values(), strict=True):
            yield layer, name, memory[part].reshape(shape)
