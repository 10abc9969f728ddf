"""Data-parallel training: each rank takes its share of every batch, and all make the same update."""

import time
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ddp_numpy.base.errors import DivergedError, InputError, Interrupted
from ddp_numpy.base.randomness import generator
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Dataset, Reader, batches, epoch_order, share
from ddp_numpy.nn import Array, Sequential, SoftmaxCrossEntropy
from ddp_numpy.optim import SGD
from ddp_numpy.training.exchange import FloatExchange, GridExchange, default_micro_rows
from ddp_numpy.training.metrics import Epoch
from ddp_numpy.training.replicas import check_replicas

_STEP_ROWS = 256  # rows that a rank takes through the layers at a time: more don't fit into its cache
_EVALUATE_ROWS = 64  # rows that a rank evaluates at a time: more take a tenth less time, and more memory than training


class Trainer:
    """Trains a model on all ranks of a communicator as one process would, only sooner."""

    def __init__(
        self,
        model: Sequential,
        optimizer: SGD,
        comm: Communicator,
        *,
        batch_size: int = 64,
        seed: int = 1,
        clip_norm: float | None = None,
        reproducible: bool = False,
        micro_rows: int | None = None,
        check_every: int = 100,
    ) -> None:
        """batch_size is the global batch, whatever the number of ranks; seed sets first weights and order.

        clip_norm: a batch's gradient whose Euclidean norm is larger is scaled down to it (Pascanu et al. 2013,
        arXiv:1211.5063). reproducible: take every batch in micro-shards, whose gradients are added up exactly: the same
        bits on any number of ranks. micro_rows: rows of each; by default what suits the batch. check_every: steps after
        which the ranks compare a hash of all they should have in common. Raises InputError for a batch size below 1.
        """
        with comm.together():
            if batch_size < 1:
                raise InputError(f"batch size {batch_size}: must be at least 1")
        self.model, self.optimizer, self.comm = model, optimizer, comm
        self.batch_size, self.seed, self.clip_norm, self.check_every = batch_size, seed, clip_norm, check_every
        self.micro_rows = (micro_rows or default_micro_rows(batch_size)) if reproducible else None
        self.epoch, self.step = 0, 0
        """Epochs trained, and steps made of the next one."""
        self.stop = False
        """Set it on any rank, in a signal handler too: all ranks raise Interrupted at the end of one same step."""
        self.stopping = False
        """Whether some rank's `stop` was set when the last step was summed up: the same on every rank."""
        self.sums_begun = self.sums_ended = 0
        """Of the steps' sums over ranks: who has begun one and not ended it waits for others, and may be asked how
        long by another thread."""
        self._prepared = False

    def prepare(self, train: Dataset) -> None:
        """Build the model for these rows, unless it is built, and give all ranks the same state. Collective.

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
        if self._prepared:
            return
        self._prepared = True
        model.input_divisor = train.divisor
        self.loss = SoftmaxCrossEntropy(train.classes, model.dtype)
        self.exchange: FloatExchange | GridExchange
        if self.micro_rows is None:
            in_pieces = -(-self.batch_size // self.comm.size) > _STEP_ROWS
            self.exchange = FloatExchange(self.comm, model, in_pieces)
        else:
            self.exchange = GridExchange(self.comm, model, self.micro_rows)
        self.grads, self.sums = self.exchange.grads, self.exchange.sums
        self.optimizer.prepare(model.params)
        vectors = {"": model.params} | {f"{name} of ": array for name, array in self.optimizer.state.items()}
        parts = model.parameter_slices().items()
        self._replicated = {name + part: vector[where] for name, vector in vectors.items() for part, where in parts}
        self.epoch_steps = -(-len(train) // self.batch_size)
        self.epoch_sums = np.zeros(3)
        """Of the epoch's steps so far: loss, rows classified correctly, rows."""
        self.restore(self.epoch, self.step, self.state())

    @property
    def steps_made(self) -> int:
        """Updates since the first weights."""
        return self.epoch * self.epoch_steps + self.step

    def state(self) -> dict[str, Array]:
        """By name, the arrays that with `epoch` and `step` decide all that is to come: the trainer's own, no copies."""
        optimizer = {f"optimizer.{name}": array for name, array in self.optimizer.state.items()}
        return {"params": self.model.params, "epoch_sums": self.epoch_sums, **optimizer}

    def restore(self, epoch: int, step: int, state: Mapping[str, Array]) -> None:
        """Go on from rank 0's epoch, step and state, as `state` gave it; other ranks' are not looked at. Collective.

        To be called after `prepare`. Raises InputError where the arrays are not those of this model and optimizer.
        """
        own = self.state()
        with self.comm.together():
            if self.comm.rank == 0:
                shapes, theirs = ({k: (v.shape, v.dtype.name) for k, v in arrays.items()} for arrays in (own, state))
                if shapes != theirs:
                    raise InputError(f"a state of {theirs} can't be gone on from: this model's is {shapes}")
                for name, array in own.items():
                    np.copyto(array, state[name])
        for array in own.values():
            self.comm.broadcast_(array)
        self.epoch, self.step = self.comm.broadcast((epoch, step))

    def fit(
        self, train: Dataset, valid: Dataset, epochs: int, on_step: Callable[[int], None] = lambda rows: None
    ) -> Iterator[Epoch]:
        """Train up to so many epochs in all, yielding the figures of each as it ends. Every rank iterates over all.

        on_step is called after each step with the number of rows of its global batch. Raises InputError as
        `prepare` does, ReplicaError if the ranks' weights have come apart, DivergedError at a loss or a gradient
        that is not finite, and Interrupted, after on_step, once `stop` was set. It may then be called again.
        """
        self.prepare(train)
        while self.epoch < epochs:
            start, rows_before = time.perf_counter(), self.epoch_sums[2]
            self.train_epoch(train, on_step)
            trained = time.perf_counter()
            valid_sums = self.evaluate(valid)
            self.check_replicas()
            self.epoch += 1
            epoch = Epoch(
                self.epoch,
                *_means(self.epoch_sums),
                *_means(valid_sums),
                images_per_second=(len(train) - rows_before) / (trained - start),
                seconds=time.perf_counter() - start,
            )
            self.step = 0
            self.epoch_sums[...] = 0
            yield epoch

    def train_epoch(self, train: Dataset, on_step: Callable[[int], None] = lambda rows: None) -> None:
        """What is left of one pass over all rows in their order; `epoch_sums` then has loss, correct and rows."""
        reader = Reader(train, self.model.dtype)
        order = epoch_order(len(train), self.seed, self.epoch + 1)
        with np.errstate(over="ignore", invalid="ignore"):  # said by DivergedError
            for batch in batches(order[self.step * self.batch_size :], self.batch_size):
                self.train_step(reader, batch)
                self.step += 1
                self.epoch_sums += self.sums
                if self.steps_made % self.check_every == 0:
                    self.check_replicas()
                on_step(len(batch))
                if self.stopping:
                    self.stop = self.stopping = False
                    raise Interrupted(f"asked to stop, and stopped after epoch {self.epoch + 1}, step {self.step}")
        assert self.epoch_sums[2] == len(train), "each row is to be trained on once an epoch"

    def train_step(self, reader: Reader, batch: Array) -> None:
        """One update from the rows of a global batch, given by their numbers (b,); this rank takes its share."""
        for rows in self._pieces(batch, _STEP_ROWS):
            X, y = self._read(reader, rows)
            losses, right = self.loss.forward(self.model.forward(X, training=True), y, len(rows))
            self.model.backward(self.loss.backward(len(batch)))
            self.exchange.add_piece(losses, right)
        self.sums_begun += 1
        self.stopping = self.exchange.sum_up(self.stop)
        self.sums_ended += 1
        self._check_and_clip()
        self.optimizer.step(self.model.params, self.grads)

    def _check_and_clip(self) -> None:
        """Raise DivergedError, on every rank, unless loss and gradient are finite; scale a large gradient down."""
        what = self.exchange.not_finite()
        if what is not None:
            raise DivergedError(
                f"{what} in epoch {self.epoch + 1}, step {self.step + 1}, at learning rate "
                f"{self.optimizer.lr:g}; the update was not made. Lower --lr, or set --clip-norm"
            )
        if self.clip_norm is not None:
            norm = float(np.linalg.norm(self.grads.astype(np.float64)))
            if norm > self.clip_norm:
                np.multiply(self.grads, self.clip_norm / norm, out=self.grads)

    def evaluate(self, data: Dataset) -> Array:
        """Loss, correct and rows, summed over all rows and ranks: no row is padded in or counted twice."""
        reader, exchange = Reader(data, self.model.dtype), self.exchange
        sums = exchange.row_sums(np.zeros(0), np.zeros(0))
        for rows in self._pieces(np.arange(len(data)), _EVALUATE_ROWS):
            X, y = self._read(reader, rows)
            sums += exchange.row_sums(*self.loss.forward(self.model.forward(X), y, len(rows)))
        self.comm.allreduce_(sums)
        return exchange.figures(sums)

    def _pieces(self, rows: Array, most: int) -> Iterator[Array]:
        """This rank's share of some rows, a piece at a time: of about so many rows at most, in whole micro-shards."""
        rank, size, micro_rows = self.comm.rank, self.comm.size, self.micro_rows
        if micro_rows is None:
            return batches(rows[share(len(rows), rank, size)], most)
        mine = share(-(-len(rows) // micro_rows), rank, size)
        most = max(1, most // micro_rows) * micro_rows
        return batches(rows[mine.start * micro_rows : mine.stop * micro_rows], most)

    def _read(self, reader: Reader, rows: Array) -> tuple[Array, Array]:
        """X and y of the rows; in micro-shards if need be, a short last one filled up with some of the rows again."""
        if self.micro_rows is None:
            return reader.read(rows)
        X, y = reader.read(np.resize(rows, -(-len(rows) // self.micro_rows) * self.micro_rows))
        return X.reshape(-1, self.micro_rows, *X.shape[1:]), y

    def check_replicas(self) -> None:
        """Raise ReplicaError, on every rank, unless weights and optimizer state are the same bits everywhere."""
        check_replicas(self.comm, self._replicated, f"in epoch {self.epoch + 1}, after step {self.step},")


def _means(sums: Array) -> tuple[float, float]:
    """Sums of loss, correct and rows -> mean loss and accuracy."""
    loss, correct, rows = sums.tolist()
    return loss / rows, correct / rows
