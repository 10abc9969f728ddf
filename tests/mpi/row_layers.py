"""python row_layers.py FOLDER: train a model whose layers ask for more than their rows' values, on all ranks.

One draws numbers by a row's place in its global batch, as dropout does. One takes a mean over all rows of the global
batch and keeps a running mean, as batch normalization does. Rank 0 writes what became of the model with each exchange.
"""

import sys
from pathlib import Path

import numpy as np
from tables import classified_rows

from ddp_numpy import (
    SGD,
    Context,
    Dataset,
    Dense,
    FactorExchange,
    FloatExchange,
    GridExchange,
    Layer,
    ReLU,
    ReplicaCheck,
    Sequential,
    Trainer,
    world,
)
from ddp_numpy.base.scale import Scale
from ddp_numpy.runs.snapshot import Snapshot, write_snapshot


class Noise(Layer):
    """Y = X times a number between 0 and 2, drawn by seed, layer, step and the row's place in its global batch."""

    def forward(self, X, context):  # type: ignore[no-untyped-def]
        self._factors = np.ones(X.shape[:-1], X.dtype)
        if context.training:
            of_batch = np.random.default_rng((context.seed, self.number, context.step)).random(context.global_rows)
            mine = of_batch[context.first_row : context.first_row + context.rows]
            self._factors.reshape(-1)[: context.rows] = 2 * mine
        return X * self._factors[..., np.newaxis]

    def backward(self, dY, input_gradient=True):  # type: ignore[no-untyped-def]
        return dY * self._factors[..., np.newaxis]


class Centred(Layer):
    """Y = X - mean of X over the global batch; in evaluation, over the batches of training."""

    joins_rows = True

    def buffer_shapes(self, input_shape):  # type: ignore[no-untyped-def]
        return {"running_mean": input_shape}

    def forward(self, X, context: Context):  # type: ignore[no-untyped-def]
        self._context = context
        if not context.training:
            return X - self.running_mean  # type: ignore[attr-defined]
        mean = self._mean(X)
        self.running_mean += 0.1 * (mean - self.running_mean)  # type: ignore[has-type]
        return X - mean

    def backward(self, dY, input_gradient=True):  # type: ignore[no-untyped-def]
        return self._counted(dY - self._mean(dY))

    def _mean(self, X):  # type: ignore[no-untyped-def]
        return self._context.sum_rows(self._counted(X).sum(axis=-2)) / self._context.global_rows

    def _counted(self, X):  # type: ignore[no-untyped-def]
        """X with zeros in place of rows that only fill a micro-shard up."""
        counted = X.copy()
        counted.reshape(-1, X.shape[-1])[self._context.rows :] = 0
        return counted


EXCHANGES = {
    "gradients": FloatExchange,
    "gradients, reproducible": lambda: GridExchange(micro_rows=4),
    "factors": lambda: FactorExchange(reproducible=False),
    "factors, reproducible": lambda: FactorExchange(micro_rows=4),
}


if __name__ == "__main__":
    comm = world()
    X, y = classified_rows(206)  # in batches of 40, with a last one of 6 rows: one and a half micro-shards
    data = Dataset(X, y, classes=4, scale=Scale(255.0))
    for name, exchange in EXCHANGES.items():
        model = Sequential(Dense(8), Noise(), Centred(), ReLU(), Dense(4), dtype=np.float64)
        checks = ReplicaCheck(every=2)
        trainer = Trainer(model, SGD(0.1, 0.9), comm, batch_size=40, exchange=exchange(), replica_check=checks)
        losses = [(epoch.train_loss, epoch.valid_loss) for epoch in trainer.fit(data, data, 2)]
        assert model.buffers.any()
        if comm.rank == 0:
            with open(Path(sys.argv[1], f"{name}.npz"), "wb") as file:
                write_snapshot(file, Snapshot(0, 0, trainer.state() | {"losses": np.array(losses)}))
