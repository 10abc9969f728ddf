"""python own_parts.py OUT COMM: train with what docs/extending.md adds, on all ranks. Rank 0 writes weights to OUT."""

import sys

import numpy as np
from extending_page import run_page
from tables import classified_rows

from ddp_numpy import BatchNorm, Dataset, Dense, FactorExchange, FloatExchange, GridExchange, ReLU, Sequential, Trainer
from ddp_numpy.base.scale import Scale

if __name__ == "__main__":
    page = run_page()
    comm, found = page["comm"], {}
    X, y = classified_rows(74, features=30)
    data = Dataset(X, y, classes=4, scale=Scale(255.0))
    many = Dataset(np.tile(X, (4, 1)), np.tile(y, 4), classes=4, scale=Scale(255.0))

    class Shifted(page["CutProjection"]):  # type: ignore[name-defined,misc]
        """Y = (X - 0.5) W. So its factor is not its input, and no other rank can read it from the data."""

        def forward(self, X, context=None):  # type: ignore[no-untyped-def]
            return super().forward(X - 0.5)

        def cut(self):  # type: ignore[no-untyped-def]
            return super().cut()._replace(X_is_input=False)

    exchanges = {
        "plain": page["PlainExchange"],
        "gradients": FloatExchange,
        "factors": lambda: FactorExchange(reproducible=False),
        "gradients, reproducible": GridExchange,
        "factors, reproducible": FactorExchange,
    }
    for name, exchange in exchanges.items():
        for kind in ("Projection", "CutProjection"):
            for batch, normalize in ((32, [BatchNorm]), (4, [])):  # of the last batch of 2 rows, a third rank has none
                own = page[kind]
                layers = (own(20), page["Noise"](0.1), *(layer() for layer in normalize), ReLU(), own(12), Dense(4))
                model = Sequential(*layers, dtype=np.float64)
                optimizer = page["Adagrad"](0.05)
                trainer = Trainer(model, optimizer, comm, batch_size=batch, exchange=exchange(), clip_norm=0.5)
                trainer.train(data, data, 1)
                found[f"{name}; {kind}; {batch}"] = model.params.copy()
        model = Sequential(Shifted(20), ReLU(), Dense(4), dtype=np.float64)
        # Of so many rows each rank reads those that it lacks itself, if they are the input.
        Trainer(model, page["Adagrad"](0.05), comm, batch_size=200, exchange=exchange()).train(many, many, 2)
        found[f"{name}; Shifted; 200"] = model.params.copy()
    if comm.rank == 0:
        np.savez(sys.argv[1], **found)
