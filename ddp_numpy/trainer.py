"""Data-parallel training: each rank takes its share of every batch, and all make the same update."""

import time
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from ddp_numpy.comm import Communicator
from ddp_numpy.data import Dataset, Reader, batches, epoch_order, share
from ddp_numpy.errors import InputError, ReplicaError
from ddp_numpy.metrics import Epoch
from ddp_numpy.nn import Array, Sequential, SoftmaxCrossEntropy
from ddp_numpy.optim import SGD
from ddp_numpy.randomness import generator

_STEP_ROWS = 256  # rows that a rank takes through the layers at a time: more don't fit into its cache
_EVALUATE_ROWS = 64  # rows that a rank evaluates at a time: more take a tenth less time, and more memory than training


class Trainer:
    """Trains a model on all ranks of a communicator as one process would, only sooner."""

    def __init__(
        self, model: Sequential, optimizer: SGD, comm: Communicator, *, batch_size: int = 64, seed: int = 1
    ) -> None:
        """batch_size is the global batch, whatever the number of ranks; seed sets first weights and order.

        Raises InputError for a batch size below 1.
        """
        with comm.together():
            if batch_size < 1:
                raise InputError(f"batch size {batch_size}: must be at least 1")
        self.model, self.optimizer, self.comm = model, optimizer, comm
        self.batch_size, self.seed = batch_size, seed
        self.exchange: Array = np.empty(0)  # made by prepare

    def prepare(self, train: Dataset) -> None:
        """Build the model for these rows, unless it is built, and give all ranks the same weights. Collective.

        `fit` does it itself. Raises InputError where the model and the data don't fit.
        """
        model, input_shape = self.model, train.features.shape[1:]
        if model.input_shape is None:
            model.build(input_shape)
            model.initialize(generator(self.seed, "init"))
        with self.comm.together():
            if model.input_shape != input_shape or model.output_shape != (train.classes,):
                raise InputError(
                    f"the model maps {model.input_shape} to {model.output_shape}, "
                    f"but the data has features {input_shape} and {train.classes} classes"
                )
        model.input_divisor = train.divisor
        self.comm.broadcast_(model.params)
        self.loss = SoftmaxCrossEntropy(train.classes, model.dtype)
        # The gradients and, in their tail, the loss sums: one vector, so that one collective moves both.
        if not self.exchange.size:
            self.exchange = self.comm.empty(model.params.size + self.loss.SUMS, model.dtype)
        self.tail = self.exchange[model.params.size :]
        self.grads = self.exchange[: model.params.size]
        # Of a share that is taken in pieces, each piece's gradients and sums.
        in_pieces = -(-self.batch_size // self.comm.size) > _STEP_ROWS
        self._piece = np.empty_like(self.exchange) if in_pieces else self.exchange
        model.attach_grads(self._piece[: model.params.size])

    def fit(
        self, train: Dataset, valid: Dataset, epochs: int, on_step: Callable[[int], None] = lambda rows: None
    ) -> Iterator[Epoch]:
        """Train, yielding the figures of each epoch as it ends. Every rank iterates over all of it.

        on_step is called after each step with the number of rows of its global batch. Raises InputError as
        `prepare` does, and ReplicaError if the ranks' weights have come apart.
        """
        self.prepare(train)
        for number in range(1, epochs + 1):
            start = time.perf_counter()
            sums = self.train_epoch(train, number, on_step)
            trained = time.perf_counter()
            valid_sums = self.evaluate(valid)
            self.check_replicas(number)
            yield Epoch(
                number,
                *_means(sums),
                *_means(valid_sums),
                images_per_second=len(train) / (trained - start),
                seconds=time.perf_counter() - start,
            )

    def train_epoch(self, train: Dataset, number: int, on_step: Callable[[int], None] = lambda rows: None) -> Array:
        """One pass over all rows in the order of epoch `number`; returns loss, correct and rows, summed."""
        sums, reader = np.zeros(self.loss.SUMS), Reader(train, self.model.dtype)
        for batch in batches(epoch_order(len(train), self.seed, number), self.batch_size):
            self.train_step(reader, batch[share(len(batch), self.comm.rank, self.comm.size)], len(batch))
            sums += self.tail
            on_step(len(batch))
        assert sums[2] == len(train), "each row is to be trained on once an epoch"
        return sums

    def train_step(self, reader: Reader, rows: Array, global_rows: int) -> None:
        """One update from this rank's row numbers (B,), maybe none, of a batch of global_rows rows."""
        for start in range(0, max(1, len(rows)), _STEP_ROWS):
            X, y = reader.read(rows[start : start + _STEP_ROWS])
            logits = self.model.forward(X, training=True)
            self.loss.forward(logits, y, self._piece[self.grads.size :])
            self.model.backward(self.loss.backward(global_rows))
            if start:
                np.add(self.exchange, self._piece, out=self.exchange)
            elif self._piece is not self.exchange:
                np.copyto(self.exchange, self._piece)
        self.comm.allreduce_(self.exchange)
        self.optimizer.step(self.model.params, self.grads)

    def evaluate(self, data: Dataset) -> Array:
        """Loss, correct and rows, summed over all rows and ranks: no row is padded in or counted twice."""
        sums, piece_sums = np.zeros(self.loss.SUMS), np.zeros(self.loss.SUMS)
        reader = Reader(data, self.model.dtype)
        mine = np.arange(len(data))[share(len(data), self.comm.rank, self.comm.size)]
        for rows in batches(mine, _EVALUATE_ROWS):
            X, y = reader.read(rows)
            self.loss.forward(self.model.forward(X), y, piece_sums)
            sums += piece_sums
        self.comm.allreduce_(sums)
        return sums

    def check_replicas(self, epoch: int) -> None:
        """Raise ReplicaError, on every rank, if the weights are not the same to the last bit everywhere."""
        digests = self.comm.gather(self.model.digest())
        error = None
        if digests is not None:
            (usual, _), *others = Counter(digests).most_common()
            if others:
                odd = [str(rank) for rank, digest in enumerate(digests) if digest != usual]
                error = ReplicaError(
                    f"after epoch {epoch} the weights of rank {', '.join(odd)} differ from those of the other "
                    f"{self.comm.size - len(odd)}: suspect the memory or the MPI library of that host"
                )
        self.comm.agree(error)


def _means(sums: Array) -> tuple[float, float]:
    """Sums of loss, correct and rows -> mean loss and accuracy."""
    loss, correct, rows = sums.tolist()
    return loss / rows, correct / rows
