"""Layers: functions of rows with their derivatives, written into memory that is made once.

Shapes: B rows of a batch (zero is a batch too), I inputs and O outputs of a layer. Rows may also come in shards of B
rows each, (shards, B, …): then each shard is multiplied on its own, and its result has the same bits whatever shards
stand beside it.
"""

import math
from collections.abc import Callable, Iterator
from types import EllipsisType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn import initialize
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.initialize import INITIALIZERS

Shape = tuple[int, ...]

MOST_NUMBERS = 2**31 - 1
"""That a row may have."""


class Cut(NamedTuple):
    """How a layer's gradient is cut along its parameters: into units, each made from two factors of all rows."""

    X: Shape
    """What a row of the one factor has: as a rule the layer's input."""
    dY: Shape
    """What a row of the other has: as a rule the gradient at the layer's output."""
    units: int
    """Into how many equal, neighbouring runs the layer's parameters may be cut."""
    X_is_input: bool = False
    """Whether X is the layer's very input. Then ranks may read the rows of a model's first layer themselves."""


class Layer:
    """What Sequential asks of a layer. This one passes its rows on as they are, and has no parameters.

    A layer keeps what its backward needs from the last forward. The arrays that it returns are its own, and keep their
    values until its next call.
    """

    number = 0
    """Its place in the model, from 1 on, layers within layers counted. Sequential sets it."""
    trained = True
    """Whether it has parameters, or layers within it have. Sequential sets it."""
    output_shape: Shape
    """Of the rows that leave. Sequential sets it."""
    chains: "tuple[Chain, ...]" = ()
    """Of the layers that it holds; each chain takes this layer's own input."""
    least_rows = 1
    """How many rows a batch must have in training."""
    joins_rows = False
    """Whether training needs all rows of the global batch for the output of one, as batch normalization does.

    Then each rank takes its rows in one piece, and calls forward and backward once a step, if it has no row too: so
    all ranks make the same calls of Context.sum_rows.
    """
    outputs: RowBuffer | None = None
    """Where forward writes what it returns. A caller may lend it other memory; None: wherever the layer likes."""
    input_gradients: RowBuffer | None = None
    """Where backward writes dX; the same."""
    gradient: Array
    """Its parameters' gradients, one behind the other (n,). Sequential sets it."""

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """The arrays that are trained, which Sequential places in its flat `params`.

        Sequential makes each name an attribute, and d + name the attribute of its gradient.
        """
        return {}

    def buffer_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """The arrays that are kept with the model but not trained, such as running statistics.

        Sequential places them in its flat `buffers`, and makes each name an attribute. All ranks must write the same
        values.
        """
        return {}

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        """Make the buffers for rows of input_shape; returns the shape of the rows that leave."""
        return input_shape

    def flops(self) -> int:
        """Floating-point operations of the built layer's forward for a row, about: one a number that leaves."""
        return math.prod(self.output_shape)

    def initialize(self, rng: np.random.Generator) -> None:
        """Fill parameters and buffers, which are zeros, with their first values."""

    def config(self) -> dict[str, Any]:
        """The constructor's arguments: with the class's name, all that a file needs to make the layer again."""
        return {}

    def description(self) -> dict[str, Any]:
        """Class and arguments, as JSON can hold them."""
        return {"type": type(self).__name__, **self.config()}

    @classmethod
    def from_config(cls, config: dict[str, Any], make: "Callable[[Any], Layer]") -> "Layer":
        """The layer that `config` told of. make: from the description of a layer within it to that layer."""
        return cls(**config)

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value}" for name, value in self.config().items())
        return type(self).__name__ + (f"({arguments})" if arguments else "")

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *input_shape) -> Y (B, *output_shape)."""
        return X

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, *output_shape) -> dX (B, *input_shape), or None if that is not asked for."""
        return dY

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Overwrite the parameters' gradients with sums over the rows of the last forward and backward.

        shard: the number of the shard whose rows these are, if rows come in shards; else all rows are summed.
        """

    def cut(self) -> Cut | None:
        """How the gradient may be cut along the parameters; None if it can't, or if its factors are larger than it.

        Then other ranks can make a run of the gradient of all rows from the rows' factors.
        """
        return None

    def features(self, units: slice) -> slice:
        """Which part of X, along its first axis behind the rows, the gradient of some units is made from."""
        return slice(None)

    def factors(self) -> tuple[Array, Array]:
        """Both factors of the rows of the last forward and backward: (B, *cut.X) and (B, *cut.dY), or in shards."""
        raise NotImplementedError

    def write_units(self, units: slice, X: Array, dY: Array, gradient: Array) -> None:
        """Overwrite the gradient (n,) of some of the units with sums over the rows of these factors.

        X (B, *cut.X) and dY (B, *cut.dY): of any rows. units: with numbers for start and stop, and a step of 1.
        """
        raise NotImplementedError


class Chain:
    """Layers applied in turn."""

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self.layers = layers

    def all_layers(self) -> Iterator[Layer]:
        """The layers, and behind each the layers within it."""
        for layer in self.layers:
            yield layer
            for chain in layer.chains:
                yield from chain.all_layers()

    def output_shape(self, input_shape: Shape) -> Shape:
        """Of rows that leave the last layer, once all are built."""
        return self.layers[-1].output_shape if self.layers else input_shape

    def forward(self, X: Array, context: Context) -> Array:
        """X (B, *input_shape) -> Y (B, *output_shape)."""
        for layer in self.layers:
            X = layer.forward(X, context)
        return X

    def backward(self, dY: Array, input_gradient: bool) -> Array | None:
        """dY (B, *output_shape) -> dX (B, *input_shape), or None if that is not asked for.

        Then it goes back no further than to the first layer that is trained.
        """
        layers = self.layers if input_gradient else self.layers[self._first_trained() :]
        gradient: Array | None = dY
        for layer in reversed(layers):
            assert gradient is not None
            gradient = layer.backward(gradient, input_gradient or layer is not layers[0])
        return gradient if input_gradient else None

    def _first_trained(self) -> int:
        return next((number for number, layer in enumerate(self.layers) if layer.trained), len(self.layers))


class Dense(Layer):
    """Y = X W + b.

    Where the gradients come from: output o of row r is the sum over i of X[r, i] W[i, o], plus b[o]. So W[i, o] changes
    the loss through every row, by X[r, i] times dY[r, o]: dW = X^T dY, and db is the sum of dY's rows. X[r, i] changes
    it through every output, by W[i, o] times dY[r, o]: dX = dY W^T.

    Row i of dW is made from column i of X and all of dY, so the rows of W are the units in which the gradient is cut,
    and b is one more.
    """

    W: Array  # (I, O)
    b: Array  # (O,)
    dW: Array
    db: Array
    outputs: RowBuffer
    input_gradients: RowBuffer

    def __init__(self, outputs: int, init: str = initialize.DEFAULT) -> None:
        """init: how W is drawn, a name of INITIALIZERS. Raises InputError unless outputs is a whole number above 0."""
        schema.check(outputs, schema.Whole(1, MOST_NUMBERS), "Dense: outputs")
        schema.check(init, schema.OneOf(*INITIALIZERS), "Dense: init")
        self.width, self.init = int(outputs), init

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        if len(input_shape) != 1:
            raise InputError(f"layer {self.number} (Dense) takes rows of one dimension, not of the shape {input_shape}")
        return {"W": (input_shape[0], self.width), "b": (self.width,)}

    def build(self, input_shape: Shape, dtype: npt.DTypeLike) -> Shape:
        self.outputs = RowBuffer((self.width,), dtype)
        self.input_gradients = RowBuffer(input_shape, dtype)
        self._bias = RowBuffer((self.width,), dtype)
        self._ones = RowBuffer((), dtype, fill=1)
        return (self.width,)

    def flops(self) -> int:
        return 2 * self.W.size  # a product and a sum for each weight

    def initialize(self, rng: np.random.Generator) -> None:
        self.W[...] = INITIALIZERS[self.init](rng, self.W.shape, *self.W.shape)

    def config(self) -> dict[str, Any]:
        return {"outputs": self.width, **initialize.config(self.init)}

    def __str__(self) -> str:
        return f"-> {self.width}"

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, I) -> Y (B, O)."""
        self._X = X
        Y, bias = self.outputs.rows(*X.shape[:-1]), self._bias.rows(*X.shape[:-1])
        np.matmul(X, self.W, out=Y)
        np.copyto(bias, self.b)  # Y += b would make NumPy allocate
        Y += bias
        return Y

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        """dY (B, O) -> dX (B, I)."""
        self._dY = dY
        if not input_gradient:
            return None
        return np.matmul(dY, self.W.T, out=self.input_gradients.rows(*dY.shape[:-1]))

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Fill dW (I, O) and db (O,)."""
        self._multiply(self._X[shard], self._dY[shard], self.dW, self.db)

    def cut(self) -> Cut:
        """X (B, I) and dY (B, O); the units are the rows of W, and b."""
        return Cut((len(self.W),), (self.width,), len(self.W) + 1, X_is_input=True)

    def features(self, units: slice) -> slice:
        """The columns of X that belong to these rows of W."""
        return slice(units.start, min(units.stop, len(self.W)))

    def factors(self) -> tuple[Array, Array]:
        return self._X, self._dY

    def write_units(self, units: slice, X: Array, dY: Array, gradient: Array) -> None:
        """X (B, I), dY (B, O)."""
        gradient, rows = gradient.reshape(-1, self.width), slice(units.start, min(units.stop, len(self.W)))
        db = gradient[-1] if units.stop > len(self.W) else None
        self._multiply(X[:, rows], dY, gradient[: rows.stop - rows.start], db)

    def _multiply(self, X: Array, dY: Array, dW: Array, db: Array | None) -> None:
        """X (B, I') of some features, dY (B, O) -> dW (I', O), and db (O,) if it is asked for."""
        np.matmul(X.T, dY, out=dW)
        if db is not None:
            np.matmul(self._ones.rows(len(dY)), dY, out=db)  # a sum over rows, in half the time of np.sum
