"""Data-parallel training: each rank takes its share of every batch, and all make the same update."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import DivergedError, InputError, Interrupted
from ddp_numpy.base.memory import memory_for
from ddp_numpy.base.randomness import generator
from ddp_numpy.comm import Communicator
from ddp_numpy.data import Dataset, Reader, batches, epoch_order, pieces, share
from ddp_numpy.exchange import Exchange, choose_exchange, read_rows
from ddp_numpy.nn import EVALUATION, Array, Context, Loss, MeanSquaredError, Sequential, SoftmaxCrossEntropy
from ddp_numpy.optim import Optimizer
from ddp_numpy.optim.schedules import Constant
from ddp_numpy.training.average import MovingAverage
from ddp_numpy.training.metrics import Epoch, figures
from ddp_numpy.training.patience import EarlyStopping, ReduceOnPlateau
from ddp_numpy.training.replicas import ReplicaCheck

LossKind = Callable[[int, npt.DTypeLike], Loss]
"""Makes a loss, of how many numbers a row of outputs has and of their dtype."""
_EVALUATE_ROWS = 64  # rows that a rank evaluates at a time: more take a tenth less time, and more memory than training


class Trainer:
    """Trains a model on all ranks of a communicator as one process would, only sooner."""

    def __init__(
        self,
        model: Sequential,
        optimizer: Optimizer,
        comm: Communicator,
        *,
        batch_size: int = 64,
        seed: int = 1,
        schedule: Callable[[int], float] | None = None,
        clip_norm: float | None = None,
        exchange: Exchange | None = None,
        replica_check: ReplicaCheck | None = None,
        plateau: ReduceOnPlateau | None = None,
        early_stopping: EarlyStopping | None = None,
        average: MovingAverage | None = None,
        loss: LossKind | None = None,
    ) -> None:
        """batch_size is the global batch, whatever the number of ranks; seed sets first weights and order.

        schedule: the learning rate of an update, after so many updates; by default always the optimizer's own. A group
        of parameters with a rate of its own keeps it.
        clip_norm: a batch's gradient whose Euclidean norm is larger is scaled down to it (Pascanu et al. 2013,
        arXiv:1211.5063). exchange: how the ranks make the gradient together; by default the fastest that
        choose_exchange finds, and with FactorExchange() the weights have the same bits on any number of ranks.
        replica_check: how often the ranks compare what they must hold alike; every 100 steps by default.
        plateau, early_stopping: what waits for a lower validation loss. average: a moving average of the weights, which
        is then validated in their place; see `averaged`. loss: makes the loss, given how many outputs a row has and the
        dtype; by default SoftmaxCrossEntropy of classes, and MeanSquaredError of numbers, each with its own defaults.

        Raises InputError for a batch size below 1.
        """
        with comm.training(), comm.together():
            if batch_size < 1:
                raise InputError(f"batch size {batch_size}: must be at least 1")
        self.model, self.optimizer, self.comm = model, optimizer, comm
        self.batch_size, self.seed, self.schedule, self.clip_norm = batch_size, seed, schedule, clip_norm
        self.exchange = exchange or choose_exchange("auto", comm, batch_size)
        self.replica_check = replica_check or ReplicaCheck()
        self._loss_kind = loss
        self.loss: Loss
        self.plateau, self.early_stopping, self.average = plateau, early_stopping, average
        if plateau is not None and schedule is None:
            self.schedule = Constant(optimizer.lr)
        self.epoch, self.step = 0, 0
        """Epochs trained, and steps made of the next one."""
        self.stop = False
        """Set it on any rank, in a signal handler too: all ranks raise Interrupted at the end of the same step."""
        self.stopping = False
        """Whether some rank's `stop` was set when the last step was summed up: the same on every rank."""
        self._sum_seconds = 0.0  # of the epoch's steps so far
        self._context = Context(training=True, seed=seed)
        self._prepared = False

    def prepare(self, train: Dataset) -> None:
        """Build the model for these rows, unless it is built, and give all ranks the same state. Collective.

        `fit` does it itself. Raises InputError if the model and the data don't fit.
        """
        model, input_shape = self.model, train.features.shape[1:]
        with self.comm.training(), self.comm.together():
            if model.input_shape is None:
                model.build(input_shape)
                with self._memory():
                    model.initialize(generator(self.seed, "init"))
            if model.input_shape != input_shape or model.output_shape != (train.outputs,):
                wanted = f"{train.classes} classes" if train.target is None else "one number to predict"
                raise InputError(
                    f"the model maps {model.input_shape} to {model.output_shape}, "
                    f"but the data has features {input_shape} and {wanted}"
                )
            smallest = len(train) % self.batch_size or self.batch_size
            if short := next((layer for layer in model.all_layers if layer.least_rows > smallest), None):
                raise InputError(
                    f"layer {short.number} ({type(short).__name__}) needs {short.least_rows} rows in a batch, and "
                    f"with --batch-size {self.batch_size} the last has {smallest}; choose another"
                )
            if self.exchange.parts > 1 and (joining := next((x for x in model.all_layers if x.joins_rows), None)):
                raise InputError(
                    f"layer {joining.number} ({type(joining).__name__}) needs all rows of a batch at once, so a batch "
                    "can't be taken in parts; leave --accumulate out"
                )
        if self._prepared:
            return
        self._prepared = True
        model.scale, model.target = train.scale, train.target
        model.class_names, model.columns, model.label = train.class_names, train.columns, train.label
        model.trained = {}  # what an earlier training was like says nothing of this one
        kind = self._loss_kind or (SoftmaxCrossEntropy if train.target is None else MeanSquaredError)
        self.loss = kind(train.outputs, model.dtype)
        with self._memory():
            if self.average is not None:
                self.average.prepare(model)
            # The counts of rows, and whether to stop.
            self.optimizer.prepare(model.params, model.parameter_slices())
            riders = len(self.exchange.tally.nothing) + 1
            self.exchange = self.exchange.prepare(self.comm, model, self.loss, self.optimizer, self.batch_size, riders)
            self.exchange.tally.loss_unit = getattr(self.loss, "unit", 1.0)
        self._context.sum_rows = self.exchange.sum_rows
        self.replica_check.prepare(self.comm, self._replicated())
        self._rows, self.epoch_steps = len(train), -(-len(train) // self.batch_size)
        self.sums = np.zeros(3)
        """Of the last step: loss, score, rows. The score is the rows classified right, or squared errors."""
        self.epoch_sums = np.zeros(3)
        """Of the epoch's steps so far: the same."""
        self.restore(self.epoch, self.step, self.state())

    def _memory(self) -> AbstractContextManager[None]:
        """A block that takes memory to train the built model. Raises InputError if there is not enough."""
        model, shard = self.model, self.exchange.micro_rows or 1
        # The least that is needed: parameters, their gradients, and what the optimizer remembers or initialize draws;
        # and for the rows of a micro-shard, their features as they are read and scaled.
        row = 2 * math.prod(model.input_shape or ()) * model.dtype.itemsize
        shards = f" in micro-shards of {shard:,} rows" if self.exchange.micro_rows else ""
        return memory_for(f"training {model.params.size:,} parameters{shards}", 3 * model.params.nbytes + shard * row)

    def __str__(self) -> str:
        parts = self.exchange.parts
        words = [f"global batch {self.batch_size}{f' in {parts} parts' if parts > 1 else ''}", str(self.optimizer)]
        if self.schedule is not None:
            words.append(f"schedule {self.schedule}")
        words += [str(what) for what in (self.plateau, self.average) if what is not None]
        if self.clip_norm:
            words.append(f"gradients clipped to {self.clip_norm:g}")
        if self._prepared and str(self.loss):
            words.append(str(self.loss))
        if self.early_stopping is not None:
            words.append(f"ends after {self.early_stopping}")
        return ", ".join([*words, f"seed {self.seed}"])

    def idle_ranks(self) -> str | None:
        """A sentence, if there are more ranks than rows in a batch, or micro-shards, else None."""
        rows, micro_rows = self.batch_size, self.exchange.micro_rows
        busy = -(-rows // (micro_rows or 1))
        if self.comm.size <= busy:
            return None
        shares = f"{rows} rows"
        if micro_rows:
            shares += f" has {busy} micro-shard{'s' * (busy > 1)} of {micro_rows}; see --micro-rows and --batch-size"
        else:
            shares += " is cut into one row a rank; see --batch-size"
        return f"{self.comm.size - busy} of {self.comm.size} ranks take no rows, as a batch of {shares}"

    @property
    def piece_rows(self) -> int:
        """The most rows that this rank takes through the layers at a time."""
        sizes: list[int] = [piece.rows.stop - piece.rows.start for piece in self.exchange.pieces(self.batch_size)]
        return max(sizes)

    @property
    def steps_made(self) -> int:
        """Updates since the first weights."""
        return self.epoch * self.epoch_steps + self.step

    def state(self) -> dict[str, Array]:
        """By name, the arrays that with `epoch` and `step` decide all that is to come: the trainer's own, no copies."""
        arrays = {"params": self.model.params, "epoch_sums": self.epoch_sums}
        if self.model.buffers.size:
            arrays["buffers"] = self.model.buffers
        arrays |= {f"optimizer.{name}": array for name, array in self.optimizer.state.items()}
        if self.average is not None:
            arrays |= {f"average.{name}": array for name, array in self.average.state.items()}
        if self.plateau is not None:
            arrays["plateau"] = self.plateau.state
        if self.early_stopping is not None:
            arrays["early_stopping"] = self.early_stopping.state
        return arrays

    def restore(self, epoch: int, step: int, state: Mapping[str, Array]) -> None:
        """Go back to rank 0's epoch, step and state, as `state` gave it; other ranks' are not looked at. Collective.

        To be called after `prepare`. Raises InputError if the arrays are not those of this model and optimizer, or if
        so many steps of an epoch have not so many rows.
        """
        own = self.state()
        with self.comm.together():
            if self.comm.rank == 0:
                shapes, theirs = ({k: (v.shape, v.dtype.name) for k, v in arrays.items()} for arrays in (own, state))
                if shapes != theirs:
                    raise InputError(f"can't resume from a state of {theirs}: this model's is {shapes}")
                rows = min(step * self.batch_size, self._rows)
                if step > self.epoch_steps or state["epoch_sums"][2] != rows:
                    raise InputError(f"can't resume from step {step}: it has counted {state['epoch_sums'][2]:g} rows")
                for name, array in own.items():
                    np.copyto(array, state[name])
        for array in own.values():
            self.exchange.broadcast_(array)
        self.epoch, self.step = self.comm.broadcast((epoch, step))
        self.optimizer.steps = self.steps_made

    def train(self, train: Dataset, valid: Dataset | None, epochs: int) -> list[Epoch]:
        """Train up to so many epochs in all, and return the figures of each. Collective. Raises what `fit` raises."""
        return list(self.fit(train, valid, epochs))

    def fit(
        self, train: Dataset, valid: Dataset | None, epochs: int, on_step: Callable[[int], None] = lambda rows: None
    ) -> Iterator[Epoch]:
        """Train up to so many epochs in all, yielding the figures of each as it ends. Every rank iterates over all.

        valid: rows to validate after each epoch; None: there are none. Nothing is trained until somebody iterates:
        `train` does it for a caller who only wants the end. on_step is called after each step with the number of rows
        of its global batch. A rank that lets the others wait in training for longer than the stall timeout (see
        `world`) ends the job. What may take longer on one rank, in on_step or between epochs, goes into a
        `with comm.unhurried():`.

        Raises InputError as `prepare` does, ReplicaError if the ranks' weights have come apart, DivergedError at a loss
        or a gradient that is not finite, and Interrupted, after on_step, once `stop` was set. It may then be called
        again.
        """
        with self.comm.training():
            self.prepare(train)
            with self.comm.together():
                if valid is None and (self.plateau is not None or self.early_stopping is not None):
                    raise InputError("what waits for a lower validation loss needs rows to validate")
        while self.epoch < epochs and not self.ended_early:
            start, rows_before, self._sum_seconds = time.perf_counter(), self.epoch_sums[2], 0.0
            self.train_epoch(train, on_step)
            trained = time.perf_counter()
            validated = {} if valid is None else figures("valid", self.evaluate(valid), valid)
            self.check_replicas()
            self.epoch += 1
            epoch = Epoch(
                number=self.epoch,
                **figures("train", self.epoch_sums, train),
                **validated,
                lr=self.optimizer.lr,
                images_per_second=(len(train) - rows_before) / (trained - start),
                waiting=self._waiting(trained - start),
                seconds=time.perf_counter() - start,
            )
            self.step = 0
            self.epoch_sums[...] = 0
            if epoch.valid_loss is not None:
                self._see(epoch.valid_loss)
            yield epoch

    def _waiting(self, seconds: float) -> tuple[float, ...]:
        """The share of these seconds that each rank waited for others in sums. Collective.

        The rank that all wait for does not wait itself, so its time is what sums take; the others' is longer.
        """
        spent = self.comm.broadcast(self.comm.gather(self._sum_seconds)) or [0.0]
        return tuple((own - min(spent)) / seconds for own in spent)

    def _see(self, valid_loss: float) -> None:
        """Tell those that wait for a lower validation loss. Collective: every rank tells them that of rank 0."""
        waiting = [patience for patience in (self.plateau, self.early_stopping) if patience is not None]
        if waiting:
            valid_loss = self.comm.broadcast(valid_loss)
        for patience in waiting:
            patience.see(valid_loss)

    @property
    def ended_early(self) -> bool:
        """Whether training is over, because the validation loss has not become lower for too long."""
        return self.early_stopping is not None and self.early_stopping.ends

    def averaged(self) -> AbstractContextManager[None]:
        """A block in which the model has the averaged weights, to save or use it; its own if there is no average."""
        return contextlib.nullcontext() if self.average is None else self.average.in_place(self.model)

    def train_epoch(self, train: Dataset, on_step: Callable[[int], None] = lambda rows: None) -> None:
        """What is left of one pass over all rows in their order; `epoch_sums` then has loss, score and rows."""
        reader = Reader(train, self.model.dtype)
        order = epoch_order(len(train), self.seed, self.epoch + 1)
        with self.comm.training(), np.errstate(over="ignore", invalid="ignore"):  # DivergedError says it
            for batch in batches(order[self.step * self.batch_size :], self.batch_size):
                self.train_step(reader, batch)
                self.step += 1
                self.epoch_sums += self.sums
                if self.steps_made % self.replica_check.every == 0:
                    self.check_replicas()
                on_step(len(batch))
                if self.stopping:
                    self.stop = self.stopping = False
                    raise Interrupted(f"asked to stop, and stopped after epoch {self.epoch + 1}, step {self.step}")
        assert self.epoch_sums[2] == len(train), "each row is to be trained on once an epoch"

    def train_step(self, reader: Reader, batch: Array) -> None:
        """One update from the rows of a global batch, given by their numbers (b,); this rank takes its share."""
        exchange, tally = self.exchange, self.exchange.tally
        counts = tally.nothing
        for piece in exchange.pieces(len(batch)):
            X, y = exchange.read(reader, batch, piece)
            first, rows = piece.rows.start, piece.rows.stop - piece.rows.start
            logits = self.model.forward(X, self._of_these_rows(first, rows, len(batch)))
            losses, scores = self.loss.forward(logits, y, rows)
            self.model.backward(self.loss.backward(len(batch)))
            exchange.add(piece)
            counts = tally.add(counts, losses, scores)
        exchange.riders[...] = *counts, self.stop
        start = time.perf_counter()
        exchange.sum()
        self._sum_seconds += time.perf_counter() - start
        self.sums, self.stopping = tally.figures(exchange.riders[:-1]), bool(exchange.riders[-1])
        if self.schedule is not None:
            rate = self.schedule(self.steps_made) * (1.0 if self.plateau is None else self.plateau.scale)
            # Rounded, as libraries on other hosts may compute another last digit of a cosine or a power.
            self.optimizer.hyper["lr"] = float(f"{rate:.12g}")
        self._check_and_clip()
        self.optimizer.step(self.model.params, exchange.grads, exchange.runs)
        exchange.publish()
        if self.average is not None:
            self.average.update(self.model, self.steps_made)

    def _of_these_rows(self, first: int, rows: int, global_rows: int) -> Context:
        """What layers may know of so many rows of a batch, from the first on. One object, used again for each piece."""
        context = self._context
        context.step, context.first_row, context.rows, context.global_rows = self.steps_made, first, rows, global_rows
        return context

    def _check_and_clip(self) -> None:
        """Raise DivergedError, on every rank, unless loss and gradient are finite; scale a large gradient down."""
        what = self.exchange.not_finite(float(self.sums[0]))
        if what is not None:
            raise DivergedError(
                f"{what} in epoch {self.epoch + 1}, step {self.step + 1}, at learning rate "
                f"{self.optimizer.lr:g}; the update was not made. A lower rate or a clip norm may help",
                self.epoch,
                self.step,
                self.steps_made,
            )
        if self.clip_norm is not None:
            norm = self.exchange.norm()
            if norm > self.clip_norm:
                for run in self.exchange.runs:
                    self.exchange.grads[run] *= self.clip_norm / norm

    def evaluate(self, data: Dataset) -> Array:
        """Loss, score and rows, summed over all rows and ranks: no row is padded in or counted twice."""
        reader, tally = Reader(data, self.model.dtype), self.exchange.tally
        counts = tally.nothing
        unit = self.exchange.micro_rows or 1
        mine = share(len(data), self.comm.rank, self.comm.size, unit)
        with self.averaged(), np.errstate(over="ignore", invalid="ignore"):  # the figures say it
            for part in pieces(mine, max(1, _EVALUATE_ROWS // unit) * unit):
                rows = np.arange(part.start, part.stop)
                X, y = read_rows(reader, rows, self.exchange.micro_rows)
                counts = tally.add(counts, *self.loss.forward(self.model.forward(X, EVALUATION), y, len(rows)))
        sums = np.array(counts, tally.dtype)
        self.comm.allreduce_(sums)
        return tally.figures(sums)

    def check_replicas(self) -> None:
        """Raise ReplicaError, on every rank, unless weights and optimizer state are the same bits everywhere."""
        self.replica_check.compare(f"in epoch {self.epoch + 1}, after step {self.step},")

    def _replicated(self) -> dict[str, Array]:
        """What all ranks hold alike, by names for people: vectors parameter by parameter, other arrays as they are."""
        arrays = {"": self.model.params} | {f"{name} of ": array for name, array in self.optimizer.state.items()}
        parts: dict[str, Array] = {}
        for name, array in arrays.items():
            if array.shape == self.model.params.shape:
                parts |= {name + part: array[where] for part, where in self.model.parameter_slices().items()}
            else:
                parts[f"{name}the optimizer"] = array
        others = {"buffers": self.model.buffers} if self.model.buffers.size else {}
        if self.average is not None:
            others |= {f"the average of {name}": array for name, array in self.average.state.items()}
        return parts | others
