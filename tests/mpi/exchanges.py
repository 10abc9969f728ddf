"""python exchanges.py OUT COMM: train small networks with each exchange, on all ranks. Rank 0 writes weights to OUT.

The batches are such that each node makes the gradient of the whole batch, or of chunks that one rank has, or all of its
ranks, in one round or in several.
"""

import sys

import numpy as np
from adaptive import Adaptive
from optimizers import OPTIMIZERS
from tables import classified_rows

from ddp_numpy import SGD, Dataset, Dense, FactorExchange, FloatExchange, GridExchange, ReLU, Sequential, Trainer, world
from ddp_numpy.base.scale import Scale

EXCHANGES = {
    "factors": lambda: FactorExchange(reproducible=False, between="factors"),
    "slices": lambda: FactorExchange(reproducible=False, between="slices"),
    "auto": lambda: FactorExchange(reproducible=False),
    "factors, reproducible": lambda: FactorExchange(between="factors"),
    "slices, reproducible": lambda: FactorExchange(between="slices"),
    "auto, reproducible": lambda: FactorExchange(),
    "gradients": FloatExchange,
    "gradients, reproducible": GridExchange,
}


class Uncut(Dense):
    """A layer of which only the whole gradient can be made."""

    def cut(self):  # type: ignore[no-untyped-def, override]
        return None


def table(rows: int) -> Dataset:
    X, y = classified_rows(rows, features=30)
    return Dataset(X, y, classes=4, scale=Scale(255.0))


if __name__ == "__main__":
    comm = world(sys.argv[2])  # type: ignore[arg-type]
    found = {}
    # Each last batch is a smaller one. With few steps there is less to wait for: there are more ranks than cores.
    for rows, batch in ((139, 64), (59, 7), (700, 600), (5000, 4500)):
        data, few = table(rows), table(20)
        for name, exchange in EXCHANGES.items():
            for kind, layer, optimizer in (
                ("plain", Dense, lambda: SGD(0.1)),
                ("momentum", Dense, lambda: SGD(0.1, 0.9)),
                ("uncut", Uncut, lambda: SGD(0.1, 0.9)),
                ("whole", Dense, Adaptive),
            ):
                if kind == "plain" and batch != 64:  # the others have all that it has, and more
                    continue
                model = Sequential(Dense(20), ReLU(), layer(12), ReLU(), Dense(4), dtype=np.float64)
                clip_norm = 0.1 if kind == "momentum" else None
                trainer = Trainer(model, optimizer(), comm, batch_size=batch, exchange=exchange(), clip_norm=clip_norm)
                trainer.train(data, few, 2)
                found[f"{name}; {batch}; {kind}"] = model.params.copy()
    data, few = table(75), table(20)
    for kind, optimizer in OPTIMIZERS.items():
        for name in ("gradients", "auto", "factors, reproducible", "slices, reproducible"):
            model = Sequential(Dense(20), ReLU(), Dense(4), dtype=np.float64)
            trainer = Trainer(model, optimizer(), comm, batch_size=32, exchange=EXCHANGES[name]())
            trainer.train(data, few, 2)
            found[f"{name}; 32; {kind}"] = model.params.copy()
    if comm.rank == 0:
        np.savez(sys.argv[1], **found)
