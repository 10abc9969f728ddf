"""Layers that give a network its structure: other shapes of a row, and a way around other layers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import MOST_NUMBERS, Chain, Layer, Shape


class Reshape(Layer):
    """The same numbers in rows of another shape, in the same order: 784 pixels as an image (28, 28, 1)."""

    def __init__(self, shape: Sequence[int]) -> None:
        """Raises InputError unless shape is a list of whole numbers above 0."""
        schema.check(list(shape), [schema.Whole(1, MOST_NUMBERS)], "Reshape: shape")
        self.shape = tuple(map(int, shape))

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        if math.prod(input_shape) != math.prod(self.shape):
            raise InputError(
                f"layer {self.number} (Reshape) can't make rows of the shape {self.shape} of rows of {input_shape}: "
                f"they are {math.prod(input_shape):,} numbers"
            )
        self._input_shape = input_shape
        return self.shape

    def flops(self) -> int:
        return 0

    def config(self) -> dict[str, Any]:
        return {"shape": list(self.shape)}

    def __str__(self) -> str:
        return f"as {' x '.join(map(str, self.shape))}"

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *input_shape) -> a view (B, *shape)."""
        return X.reshape(*X.shape[: X.ndim - len(self._input_shape)], *self.shape)

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *shape) -> a view (B, *input_shape)."""
        return dY.reshape(*dY.shape[: dY.ndim - len(self.shape)], *self._input_shape)


class Flatten(Reshape):
    """The same numbers in rows of one dimension, as a dense layer takes them."""

    def __init__(self) -> None:
        super().__init__([1])

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self.shape = (math.prod(input_shape),)
        return super().build(input_shape, dtype)

    def config(self) -> dict[str, Any]:
        return {}

    def __str__(self) -> str:
        return "flat"


class Residual(Layer):
    """Y = layers(X) + shortcut(X): the layers only learn what is to be added (He et al., CVPR 2016, arXiv:1512.03385).

    X goes both ways, so dX is the sum of what comes back on both.
    """

    outputs: RowBuffer
    input_gradients: RowBuffer

    def __init__(self, *layers: Layer, shortcut: Sequence[Layer] = ()) -> None:
        """shortcut: layers that bring X to the shape that the others return; by default X stays as it is."""
        self._layers, self._shortcut = Chain(layers), Chain(tuple(shortcut))
        self.chains = (self._layers, self._shortcut)

    @classmethod
    def from_config(cls, config: dict[str, Any], make: Callable[[Any], Layer]) -> "Residual":
        schema.check(config, {"layers": [object], "shortcut?": [object]}, "Residual")
        return cls(*map(make, config["layers"]), shortcut=list(map(make, config.get("shortcut", []))))

    def config(self) -> dict[str, Any]:
        layers, shortcut = ([layer.description() for layer in chain.layers] for chain in self.chains)
        return {"layers": layers, **({"shortcut": shortcut} if shortcut else {})}

    def __str__(self) -> str:
        inner, shortcut = (" ".join(map(str, chain.layers)) for chain in self.chains)
        return f"[{inner} + {shortcut or 'X'}]"

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        shapes = [chain.output_shape(input_shape) for chain in self.chains]
        if shapes[0] != shapes[1]:
            raise InputError(
                f"layer {self.number} (Residual): its layers return rows of the shape {shapes[0]}, and its shortcut "
                f"{shapes[1]}, which can't be added; give it a shortcut that returns {shapes[0]}"
            )
        self._row_axes = len(input_shape)
        self.outputs, self.input_gradients = RowBuffer(shapes[0], dtype), RowBuffer(input_shape, dtype)
        return shapes[0]

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *input_shape) -> Y (B, *output_shape)."""
        Y = self.outputs.rows(*X.shape[: X.ndim - self._row_axes])
        added: Array = np.add(self._layers.forward(X, context), self._shortcut.forward(X, context), out=Y)
        return added

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *output_shape) -> dX (B, *input_shape)."""
        inner, shortcut = (chain.backward(dY, input_gradient) for chain in self.chains)
        if inner is None or shortcut is None:
            return None
        rows = inner.shape[: inner.ndim - self._row_axes]
        added: Array = np.add(inner, shortcut, out=self.input_gradients.rows(*rows))
        return added
