"""What the ranks of a node share: a layer's factors X and dY, of the rows that it holds, and what else has a name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.memory import memory_for
from ddp_numpy.comm import Communicator, Node, in_cache_lines
from ddp_numpy.exchange.division import Round
from ddp_numpy.nn import Array, Cut, Layer, Loss, Sequential
from ddp_numpy.optim import Optimizer

Shapes = dict[str, tuple[tuple[int, ...], Any]]
"""Of arrays, by name, their shape and dtype."""


def node_memory(comm: Communicator, shared: Shapes, own: Shapes, what: str) -> tuple[Node, dict[str, Array]]:
    """Arrays by name: those that all ranks of a node see, and those that each has for itself. Collective.

    what: whose they are, for people, if there is not enough memory.
    """
    sizes = [math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in shared.values()]
    with memory_for(what, sum(sizes)):
        node = comm.node(sum(map(in_cache_lines, sizes)))
        arrays = {name: node.array(*shared[name]) for name in shared}
        return node, arrays | {name: np.zeros(*own[name]) for name in own}


def state_shapes(state: Mapping[str, Array]) -> Shapes:
    """The memory of this part of an optimizer's state."""
    return {f"optimizer.{name}": (array.shape, array.dtype) for name, array in state.items()}


def move_state(optimizer: Optimizer, memory: Mapping[str, Array], node: Node) -> None:
    """Move what has a place among these arrays of an optimizer's state there, as rank 0 of the node has it."""
    for name, array in optimizer.state.items():
        place = memory.get(f"optimizer.{name}")
        if place is not None:
            if node.rank == 0:
                np.copyto(place, array)
            optimizer.state[name] = place


@dataclass(frozen=True)
class CutLayer:
    """A layer whose gradient is cut along its parameters, and the factors of the rows that its node holds."""

    layer: Layer
    place: slice
    """Of its parameters, in the flat vector."""
    numbers: int
    """How many parameters a unit has."""
    X: Array
    dY: Array
    X_writer: RowBuffer | None
    """Where the layer before writes X; None: it is not known."""
    dY_writer: RowBuffer | None
    """The same for dY: of the layer behind, or the loss."""
    is_first: bool
    """Whether its X are the input rows, which each node has, and can read anew."""


def input_layer(cuts: Mapping[Layer, Cut], model: Sequential) -> Layer | None:
    """The model's first layer, if its X are the input rows: these each rank can read from the data. None if not."""
    first = model.layers[0]
    return first if first in cuts and cuts[first].X_is_input else None


def factor_shapes(cuts: Mapping[Layer, Cut], rows: int, dtype: Any) -> Shapes:
    """The memory of so many rows' factors."""
    shapes: Shapes = {}
    for layer, cut in cuts.items():
        shapes[f"X of {layer.number}"] = (rows, *cut.X), dtype
        shapes[f"dY of {layer.number}"] = (rows, *cut.dY), dtype
    return shapes


def cut_layers(cuts: Mapping[Layer, Cut], memory: Mapping[str, Array], model: Sequential, loss: Loss) -> list[CutLayer]:
    """These layers of a model, with memory as factor_shapes names it."""
    places, layers, first = model.layer_slices(), model.layers, input_layer(cuts, model)
    # By layer, what writes X and dY. It is not known of layers within layers.
    writers: dict[Layer, tuple[RowBuffer | None, RowBuffer | None]] = {
        layer: (before.outputs if before else None, behind.input_gradients if behind else loss.gradients)
        for before, layer, behind in zip([None, *layers], layers, [*layers[1:], None], strict=False)
    }
    found = []
    for layer, cut in cuts.items():
        place = places[layer]
        found.append(
            CutLayer(
                layer,
                place,
                (place.stop - place.start) // cut.units,
                memory[f"X of {layer.number}"],
                memory[f"dY of {layer.number}"],
                *writers.get(layer, (None, None)),
                layer is first,
            )
        )
    return found


@dataclass(frozen=True)
class FactorPiece:
    """Rows that this rank takes through the layers, and where their factors go."""

    rows: slice
    """Of the batch."""
    micro_rows: int | None
    """In shards of how many rows the layers get them; None: all at once."""
    factors: list[tuple[Layer, Array, Array]]
    """Of each layer, the memory of X and of dY, in the shape in which the layers fill it."""
    lends: list[tuple[RowBuffer, Array]]
    """What writes there of itself, if this memory is lent to it."""
    X: Array | None
    """Where the input rows are read to. None: to the reader's own memory; then they are copied.

    Copying is quicker than writing where others have read, for the reason that Mailbox gives.
    """
    features: int
    """How many numbers the input rows have, if they are a factor."""
    X_vectors: list[Array]
    """The memory of all other X, each as a vector (n,)."""
    dY_vectors: list[Array]
    round: Round
    closes: bool
    """Whether it is the last of a round, and more rounds of the batch follow."""


def factor_piece(
    rows: slice, held: Round, micro_rows: int | None, cuts: list[CutLayer], direct: bool, closes: bool
) -> FactorPiece:
    """A piece of a round. A short micro-shard has room for the rows that fill it up.

    direct: input rows are read to the memory in which they are a factor.
    """
    start, n = rows.start - held.rows.start, rows.stop - rows.start
    shape = (n,) if micro_rows is None else (-(-n // micro_rows), micro_rows)
    place = slice(start, start + math.prod(shape))
    factors: list[tuple[Layer, Array, Array]] = []
    lends: list[tuple[RowBuffer, Array]] = []
    first: Array | None = None
    for cut in cuts:
        X, dY = (factor[place].reshape(*shape, *factor.shape[1:]) for factor in (cut.X, cut.dY))
        factors.append((cut.layer, X, dY))
        first = X if cut.is_first else first
        writers = ((cut.X_writer, X), (cut.dY_writer, dY))
        lends += [(writer, memory) for writer, memory in writers if writer is not None]
    return FactorPiece(
        rows,
        micro_rows,
        factors,
        lends,
        first if direct else None,
        0 if first is None else first.size,
        [X.reshape(-1) for _, X, _ in factors if X is not first],
        [dY.reshape(-1) for _, _, dY in factors],
        held,
        closes,
    )
