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


if __name__ == "__main__":
    comm = world(sys.argv[2])  # type: ignore[arg-type]
    found = {}
    for rows, batch in ((203, 64), (203, 7), (1300, 600), (5000, 4500)):
        X, y = classified_rows(rows, features=30)
        data = Dataset(X, y, classes=4, scale=Scale(255.0))
        for name, exchange in EXCHANGES.items():
            for kind, layer, optimizer in (
                ("plain", Dense, lambda: SGD(0.1)),
                ("momentum", Dense, lambda: SGD(0.1, 0.9)),
                ("uncut", Uncut, lambda: SGD(0.1, 0.9)),
                ("whole", Dense, Adaptive),
            ):
                model = Sequential(Dense(20), ReLU(), layer(12), ReLU(), Dense(4), dtype=np.float64)
                clip_norm = 0.1 if kind == "momentum" else None
                trainer = Trainer(model, optimizer(), comm, batch_size=batch, exchange=exchange(), clip_norm=clip_norm)
                trainer.train(data, data, 2)
                found[f"{name}; {batch}; {kind}"] = model.params.copy()
    X, y = classified_rows(203, features=30)
    data = Dataset(X, y, classes=4, scale=Scale(255.0))
    for kind, optimizer in OPTIMIZERS.items():
        for name in ("gradients", "auto", "factors, reproducible", "slices, reproducible"):
            model = Sequential(Dense(20), ReLU(), Dense(4), dtype=np.float64)
            trainer = Trainer(model, optimizer(), comm, batch_size=32, exchange=EXCHANGES[name]())
            trainer.train(data, data, 2)
            found[f"{name}; 32; {kind}"] = model.params.copy()
    if comm.rank == 0:
        np.savez(sys.argv[1], **found)
