"""What the trainer asks of an exchange: from the rows of a global batch to its gradient, on all ranks together.

There are two ways, as a weight gradient is a product of the rows' factors, dW = X^T dY, and can be cut along rows or
along parameters:

- gradients.py: each rank makes the gradient of all parameters from its own rows, and the ranks' gradients are added.
- factors.py: each rank makes the gradient of its own run of the parameters from all rows. Nothing is added.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from ddp_numpy.comm import Communicator
from ddp_numpy.data import Reader
from ddp_numpy.exchange.tally import Tally
from ddp_numpy.nn import Array, Loss, Sequential
from ddp_numpy.optim import Optimizer

PIECE_ROWS = 256
"""The most rows that a rank takes through the layers at a time: more don't fit into its cache."""
_WIDE, _WIDE_ROWS = 4096, 32
"""Of networks whose layers return more numbers a row, as for images, only so many rows at a time fit."""


class Piece(Protocol):
    """Rows that a rank takes through the layers at a time."""

    @property
    def rows(self) -> slice:
        """Which rows of the batch these are."""
        ...


class Exchange(Protocol):
    """From the rows of a global batch to its gradient.

    A step on each rank is: `read`, and `add` after the model's backward, for each of its `pieces`; `sum`; an update of
    its `runs` of the parameters, unless something is `not_finite`; `publish`.
    """

    parts: int
    """In how many pieces at least a rank takes its rows of a batch, to need less memory."""
    micro_rows: int | None
    """Rows of the shards in which the model gets its rows; None if they come all together."""
    tally: Tally
    """How the rows' losses are counted, so that they add up in the way gradients do."""
    grads: Array
    """The gradient of the global batch (P,), after `sum`: at least this rank's runs of it."""
    runs: Sequence[slice]
    """The runs of the parameters that this rank updates."""
    riders: Array
    """Numbers (k,) that `sum` replaces by their sums over ranks; they are written before it, and read after it."""
    gathered_bytes: int
    """Of factors of a whole batch that are gathered over nodes; 0 if none are."""
    summed_bytes: int
    """Of gradients that are summed over ranks or nodes; 0 if none are."""
    found: str | None
    """The name of the exchange that `prepare` found quicker by a trial, so that a resumed run takes it too."""

    def prepare(
        self,
        comm: Communicator,
        model: Sequential,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        riders: int,
    ) -> "Exchange":
        """Make the memory for a model and its gradients, and let model, loss and optimizer use it. Collective.

        Returns the exchange to take: itself, or another that it found quicker. The optimizer has been prepared for the
        model. riders: how many there are to be. Raises InputError at a second call: an exchange has the memory of one
        trainer.
        """
        ...

    def pieces(self, rows: int) -> Iterable[Piece]:
        """This rank's rows of a batch of so many. If it has none, it takes an empty piece, and so calls all layers."""
        ...

    def read(self, reader: Reader, batch: Array, piece: Piece) -> tuple[Array, Array]:
        """X and y of a piece's rows, where batch (b,) has the numbers of all rows."""
        ...

    def add(self, piece: Piece) -> None:
        """Take what the model's last backward, of this piece, has left."""
        ...

    def sum(self) -> None:
        """Fill the runs of `grads` with the gradient of the whole batch, and `riders` with their sums. Collective.

        If `not_finite` then names something, `grads` is worth nothing.
        """
        ...

    def not_finite(self, loss: float) -> str | None:
        """What is wrong if the loss or a gradient is not a finite number, else None: alike on all ranks. Collective."""
        ...

    def norm(self) -> float:
        """The Euclidean norm of the whole gradient, to the last bit alike on all ranks. Collective."""
        ...

    def publish(self) -> None:
        """The runs have been updated: let all ranks have all parameters. Collective."""
        ...

    def broadcast_(self, x: Array) -> None:
        """Replace a vector of the model or the optimizer, or an array of each rank's own, by rank 0's. Collective."""
        ...

    def sum_rows(self, partial: Array) -> Array:
        """What layers get as Context.sum_rows: sums (n,) of this rank's rows -> sums of the batch's rows. Collective.

        If rows come in shards the sums are those of each shard, (shards, n).
        """
        ...


def piece_rows(model: Sequential, batch_size: int, ranks: int, unit: int, parts: int) -> int | None:
    """How many rows a rank takes through the layers at a time, in whole units; None: all that it has of a batch."""
    if model.joins_rows:
        return None
    rows = PIECE_ROWS if model.widest <= _WIDE else _WIDE_ROWS
    if parts > 1:
        rows = min(rows, -(-batch_size // (ranks * parts)))
    return max(1, rows // unit) * unit


def read_rows(reader: Reader, rows: Array, micro_rows: int | None, memory: Array | None = None) -> tuple[Array, Array]:
    """X and y of these row numbers; in shards of micro_rows, a short last one filled up with some of the rows again.

    memory: for X; by default the reader's own.
    """
    if micro_rows is None:
        return reader.read(rows, memory)
    shards = -(-len(rows) // micro_rows)
    if len(rows) != shards * micro_rows:
        rows = np.resize(rows, shards * micro_rows)
    X, y = reader.read(rows, None if memory is None else memory.reshape(len(rows), *memory.shape[2:]))
    return X.reshape(shards, micro_rows, *X.shape[1:]) if memory is None else memory, y
