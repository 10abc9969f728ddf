"""A stack of layers over one flat vector of parameters."""

import hashlib
import math
import weakref
from collections.abc import Container, Iterator
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.columns import Column, are_plain, encode
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.memory import memory_for
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.rows import numbered
from ddp_numpy.base.scale import Scale, Scaler
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import MOST_NUMBERS, Chain, Layer, Shape

_PREDICT_ROWS = 1024  # rows that `predict` takes through the layers at a time, and less if there are more than
_PREDICT_NUMBERS = 2**20  # numbers behind a layer
_MOST_AXES = 8  # of a row; NumPy allows 64, and rows, shards and layers add some

# By a layer's id, the model that it was built in. A model keeps its layers, so no other object gets an id that is here.
# Not noted in the layer, so that models can be copied and pickled.
_built_in: "weakref.WeakValueDictionary[int, Sequential]" = weakref.WeakValueDictionary()


class Sequential:
    """Layers applied in turn. All parameters lie in `params`, all gradients in `grads`: two vectors (P,).

    What layers keep besides, and do not train, lies in `buffers` (S,). Layers hold views into all three, so whoever
    sums, updates, hashes or saves the model sees one array.
    """

    params: Array
    grads: Array
    buffers: Array

    def __init__(self, *layers: Layer, dtype: npt.DTypeLike = np.float32) -> None:
        """Raises InputError if a layer stands twice among them: its second forward would overwrite what it kept."""
        self.layers, self._chain = layers, Chain(layers)
        self.all_layers = tuple(self._chain.all_layers())
        """The layers, and behind each the layers within it."""
        first_places: dict[int, int] = {}
        for number, layer in enumerate(self.all_layers, 1):
            first = first_places.setdefault(id(layer), number)
            if first != number:
                kind = type(layer).__name__
                raise InputError(f"layers {first} and {number} are the same {kind} object; give each place its own")
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.input_shape: Shape | None = None
        self.output_shape: Shape = ()
        self.scale = Scale()
        """How raw features are scaled before `forward`; `predict` does it itself."""
        self.class_names: tuple[str | int | bool, ...] = ()
        """What the outputs 0, 1, 2 … stand for, and `predict` returns; () if for these numbers."""
        self.columns: tuple[Column, ...] = ()
        """Of the table that it was trained on; () if features have no names. `predict` makes features of them."""
        self.label = ""
        """What the column of labels was called in the table that it was trained on; "" if it had no name."""
        self.target: Scale | None = None
        """How numbers to predict are scaled, as one feature; None of a model that classifies."""
        self.trained: dict[str, Any] = {}
        """What its file tells of the run that trained it: data_sha256, valid_accuracy or valid_r2, version.

        Of a checkpoint, also epoch and step: how many epochs are complete, and how many steps of the next one.
        """
        self.joins_rows = any(layer.joins_rows for layer in self.all_layers)
        """Whether some layer needs all rows of the global batch for the output of one: see Layer."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Of a copy, or of a model that was unpickled: let its layers hold views into its own vectors again."""
        self.__dict__.update(state)
        if self.input_shape is not None:
            self.attach_params(np.array(self.params))
            self.attach_buffers(np.array(self.buffers))
        if hasattr(self, "grads"):
            self.attach_grads(np.zeros_like(self.params))

    def build(self, input_shape: Shape, params: Array | None = None, buffers: Array | None = None) -> None:
        """Make the layers' memory for rows of this shape. A built model may be built again.

        params (P,), buffers (S,): vectors of the model's dtype to use as they are; by default new ones, of zeros.
        Raises InputError if the model has not the size of these vectors or is too large for memory, if rows of this
        shape can't be, or if a layer is part of another model that is still there.
        """
        schema.check(list(input_shape), [schema.Whole(1)], "input_shape")
        if not 1 <= math.prod(input_shape) <= MOST_NUMBERS or not 1 <= len(input_shape) <= _MOST_AXES:
            raise InputError(f"a model can't take rows of the shape {input_shape}")
        for number, layer in enumerate(self.all_layers, 1):
            if _built_in.get(id(layer), self) is not self:
                raise InputError(
                    f"layer {number} ({type(layer).__name__}) is part of another model, and would lose that model's "
                    "parameters and gradients; give each model layers of its own"
                )
        for number, layer in enumerate(self.all_layers, 1):
            layer.number = number
        parameters: list[tuple[Layer, str, Shape]] = []
        kept: list[tuple[Layer, str, Shape]] = []
        shape = self._build(self._chain, input_shape, parameters, kept)
        params, buffers = (
            self._vector(what, arrays, given)
            for what, arrays, given in (("parameters", parameters, params), ("numbers in buffers", kept, buffers))
        )
        self.input_shape, self.output_shape = input_shape, shape
        self._parameters, self._kept = parameters, kept
        self.attach_params(params)
        self.attach_buffers(buffers)
        _built_in.update((id(layer), self) for layer in self.all_layers)

    def _build(
        self,
        chain: Chain,
        shape: Shape,
        parameters: list[tuple[Layer, str, Shape]],
        kept: list[tuple[Layer, str, Shape]],
    ) -> Shape:
        """Build a chain's layers, and add their arrays to the lists; returns the shape of the rows that leave."""
        for layer in chain.layers:
            before = len(parameters)
            for inner in layer.chains:
                self._build(inner, shape, parameters, kept)
            parameters += [(layer, name, size) for name, size in layer.parameter_shapes(shape).items()]
            kept += [(layer, name, size) for name, size in layer.buffer_shapes(shape).items()]
            shape = layer.output_shape = layer.build(shape, self.dtype)
            layer.trained = len(parameters) > before
        return shape

    def _vector(self, what: str, arrays: list[tuple[Layer, str, Shape]], given: Array | None) -> Array:
        """A vector that all of these arrays lie in: the one that is given, if its size is right, or zeros."""
        size = sum(math.prod(shape) for _, _, shape in arrays)
        if given is None:
            with memory_for(f"a model of {size:,} {what}", size * self.dtype.itemsize):
                return np.zeros(size, self.dtype)
        if given.shape != (size,) or given.dtype != self.dtype:
            raise InputError(f"the model has {size:,} {what} in {self.dtype}, not {given.dtype} {given.shape}")
        return given

    @property
    def widest(self) -> int:
        """The most numbers that a row has behind a layer of the built model."""
        return max([1, *(math.prod(layer.output_shape) for layer in self.all_layers)])

    def initialize(self, rng: np.random.Generator) -> None:
        """Draw the first values of all parameters, layer by layer."""
        for layer in self.all_layers:
            layer.initialize(rng)

    def attach_params(self, memory: Array) -> None:
        """Let parameters lie in this vector (P,), with the values that it has."""
        self.params = memory
        for layer, name, view in _views(self._parameters, memory):
            setattr(layer, name, view)

    def attach_buffers(self, memory: Array) -> None:
        """Let buffers lie in this vector (S,), with the values that it has."""
        self.buffers = memory
        for layer, name, view in _views(self._kept, memory):
            setattr(layer, name, view)

    def attach_grads(self, memory: Array) -> None:
        """Let gradients be written into this vector (P,): the caller knows which memory is quickest to sum."""
        self.grads = memory
        self.attach_layer_grads(memory, self.layer_slices())

    def attach_layer_grads(self, memory: Array, layers: Container[Layer]) -> None:
        """Let the gradients of some of the layers be written into this vector, one behind the other."""
        arrays = self._arrays(layers)
        for layer, name, view in _views(arrays, memory):
            setattr(layer, f"d{name}", view)
        for layer, part in _layer_places(arrays).items():
            layer.gradient = memory[part]

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, *input_shape), scaled -> logits (B, classes); in shards if X comes in shards."""
        return self._chain.forward(X, context)

    def backward(self, dY: Array) -> None:
        """Take dY (B, classes), the gradient at the last forward's logits, back to all layers' outputs."""
        self._chain.backward(dY, input_gradient=False)

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Overwrite `grads` with sums over the rows of the last backward: of one shard, or of all."""
        for layer in self.all_layers:
            layer.write_gradients(shard)

    def predict(self, X: npt.ArrayLike) -> Array:
        """The likeliest class (B,) of each row of raw features X (B, *input_shape), as they stand in the data.

        Of a model that predicts numbers: the numbers (B,), float64.
        Classes are called as in the data: the array holds their names, or the numbers 0, 1, 2 … if they have no others.
        X: an array, or a table such as a pandas DataFrame, in which the model's columns are found by name, in any
        order. Raises InputError for another width, a missing value or column, what is no number, and numbers so large
        that the result is not finite.
        """
        return self.predictions_of(self.logits(X))

    def predictions_of(self, logits: Array) -> Array:
        """What `predict` returns (B,), of what `logits` returned."""
        if self.target is not None:
            predictions: Array = (logits.astype(np.float64) * self.target.divisor + self.target.shift)[:, 0]
            return predictions
        classes: Array = logits.argmax(axis=1)
        return np.array(self.class_names)[classes] if self.class_names else classes

    def predict_proba(self, X: npt.ArrayLike) -> Array:
        """The softmax probabilities (B, classes) of raw features X (B, *input_shape), in the model's dtype.

        The probabilities of a row add up to 1, up to rounding. X and errors: as in `predict`; an InputError, too, if
        the model predicts numbers.
        """
        return self.probabilities_of(self.logits(X))

    def probabilities_of(self, logits: Array) -> Array:
        """What `predict_proba` returns (B, classes), of what `logits` returned."""
        if self.target is not None:
            raise InputError("the model predicts numbers, and has no probabilities of classes")
        # No number above 0 goes into exp(), so it can't overflow. The quotient stays the same: see the loss.
        with np.errstate(over="ignore"):  # of the difference: minus infinity, of which the exponential is 0
            P = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities: Array = P / P.sum(axis=1, keepdims=True)
        return probabilities

    def logits(self, X: npt.ArrayLike, row_numbers: Any | None = None) -> Array:
        """The logits (B, classes) of raw features X (B, *input_shape), in the model's dtype.

        Of a model that predicts numbers: these, (B, 1), as they are scaled. row_numbers: of the rows, for messages; by
        default from 1. X and errors: as in `predict`.
        """
        return self.logits_of(self.features(X, row_numbers), row_numbers)

    def features(self, X: npt.ArrayLike, row_numbers: Any | None = None) -> Array:
        """The raw features (B, *input_shape) of rows X, numbers of any dtype. Arguments and errors: as of `logits`."""
        if self.input_shape is None:
            raise InputError("the model is not built yet; train it, or load it from a file")
        values = self._columns_of(X, row_numbers)
        if values.dtype.kind == "O":  # columns of several types, numbers among them
            try:
                values = values.astype(np.float64)
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(f"features must be numbers, with none missing: {error}") from None
        if values.dtype.kind not in "iufb":
            raise InputError(f"features must be numbers, not {values.dtype}")
        if values.shape[1:] != self.input_shape or not values.ndim:
            needed = ", ".join(map(str, self.input_shape))
            raise InputError(f"features have the shape {values.shape}, and must have (rows, {needed})")
        return values

    def logits_of(self, values: Array, row_numbers: Any | None = None) -> Array:
        """The logits (B, classes) of what `features` returned (B, *input_shape), in pieces that fit into memory."""
        found = np.empty((len(values), *self.output_shape), self.dtype)
        rows = min(_PREDICT_ROWS, max(1, _PREDICT_NUMBERS // self.widest))
        scale = Scaler(self.scale, values.dtype, self.dtype)
        for start in range(0, len(values), rows):
            # What is not finite is refused below. A tiny divisor may be 0 in the model's dtype.
            with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
                raw = values[start : start + rows]
                scaled = np.empty(raw.shape, self.dtype)
                scale(raw, scaled)
                logits = self.forward(scaled)
            if not np.isfinite(scaled).all():
                row, *place = map(int, np.argwhere(~np.isfinite(scaled))[0])
                value = values[start + row][tuple(place)]
                column = ", ".join(str(axis + 1) for axis in place)
                if are_plain(self.columns) and len(self.columns) == values.shape[1]:
                    column = repr(self.columns[place[0]].name)
                over = f", {self.scale}," if str(self.scale) != "divided by 1" else ""
                what = "a value is missing" if np.isnan(value) else f"{value}{over} is not a finite {self.dtype}"
                number = numbered(start + row, row_numbers)
                raise InputError(f"row {number}, column {column}: {what}; correct or drop the row")
            if not np.isfinite(logits).all():
                number = numbered(start, row_numbers)
                raise InputError(f"in row {number} or after it, the model's results are too large for {self.dtype}")
            found[start : start + rows] = logits  # which lie in memory that the next piece overwrites
        return found

    def _columns_of(self, X: Any, row_numbers: Any | None) -> Array:
        """The raw features of a table or an array, in which columns stand by name, or else in the model's order."""
        names = set(map(str, getattr(X, "columns", ())))
        missing = [column.name for column in self.columns if column.name not in names]
        if len(missing) < len(self.columns):
            if missing:
                raise InputError(one_line(f"the table has no column {missing[0]!r}, which the model was trained on"))
            X = X.rename(columns=str)[[column.name for column in self.columns]]
        values = X.to_numpy() if hasattr(X, "to_numpy") else np.asarray(X)
        if are_plain(self.columns) or values.shape[1:] != (len(self.columns),):
            return values
        return encode(self.columns, X, row_numbers)

    def digest(self) -> str:
        """SHA-256 of the bytes of parameters and buffers: equal on two ranks if and only if their models are."""
        return hashlib.sha256(self.params.tobytes() + self.buffers.tobytes()).hexdigest()

    @property
    def classes(self) -> tuple[str | int | bool, ...]:
        """What the outputs stand for: `class_names`, or 0, 1, 2 …; () of a model that predicts numbers."""
        if self.target is not None:
            return ()
        return self.class_names or tuple(range(self.output_shape[0]))

    def parameter_slices(self, layers: Container[Layer] | None = None) -> dict[str, slice]:
        """By names for people, like "W of layer 1 (Dense)", where in `params` and `grads` each array lies.

        layers: of these alone, and where in a vector that has no others.
        """
        arrays = self._parameters if layers is None else self._arrays(layers)
        return {
            f"{name} of layer {layer.number} ({type(layer).__name__})": part
            for (layer, name, _), part in zip(arrays, _places(arrays), strict=True)
        }

    def layer_slices(self) -> dict[Layer, slice]:
        """Each layer that has parameters, and where in `params` and `grads` all of them lie, one behind the other."""
        return _layer_places(self._parameters)

    def arrays(self) -> Iterator[tuple[Layer, str]]:
        """The names of all that layers keep in `params` and `buffers`, each with its layer."""
        for layer, name, _ in (*self._parameters, *self._kept):
            yield layer, name

    def _arrays(self, layers: Container[Layer]) -> list[tuple[Layer, str, Shape]]:
        return [array for array in self._parameters if array[0] in layers]

    def description(self) -> dict[str, Any]:
        """The built model without its numbers, as JSON can hold it: two models are alike if these are equal."""
        return {
            "input_shape": list(self.input_shape or ()),
            **self.scale.description(),
            "classes": self.output_shape[0],
            **({"class_names": list(self.class_names)} if self.class_names else {}),
            **({"columns": [column.description() for column in self.columns]} if self.columns else {}),
            **({"label": self.label} if self.label else {}),
            **({} if self.target is None else {"target": self.target.as_one()}),
            "layers": [layer.description() for layer in self.layers],
        }

    def __str__(self) -> str:
        inputs = [str(math.prod(self.input_shape))] if self.input_shape else []
        return " ".join([*inputs, *map(str, self.layers)])


def _views(arrays: list[tuple[Layer, str, Shape]], memory: Array) -> Iterator[tuple[Layer, str, Array]]:
    """Each layer's array as a view into a vector in which all of them lie one behind the other."""
    for (layer, name, shape), part in zip(arrays, _places(arrays), strict=True):
        yield layer, name, memory[part].reshape(shape)


def _layer_places(arrays: list[tuple[Layer, str, Shape]]) -> dict[Layer, slice]:
    """Where all arrays of each layer lie in that vector."""
    places: dict[Layer, slice] = {}
    for (layer, _, _), part in zip(arrays, _places(arrays), strict=True):
        places[layer] = slice(places.get(layer, part).start, part.stop)
    return places


def _places(arrays: list[tuple[Layer, str, Shape]]) -> Iterator[slice]:
    """Where each array lies in that vector."""
    start = 0
    for _, _, shape in arrays:
        stop = start + math.prod(shape)
        yield slice(start, stop)
        start = stop
