"""python networks.py OUT COMM: train a small network of each layer with each exchange, on all ranks.

Rank 0 writes what became of the models to OUT. The last batch of each epoch has 3 rows, so some ranks have none.
"""

import sys

import numpy as np
from layers import LAYERS
from tables import classified_rows

from ddp_numpy import (
    SGD,
    Dataset,
    Dense,
    FactorExchange,
    Flatten,
    FloatExchange,
    GridExchange,
    MovingAverage,
    ReLU,
    Sequential,
    Trainer,
    world,
)
from ddp_numpy.base.scale import Scale

EXCHANGES = {
    "gradients": FloatExchange,
    "factors": lambda: FactorExchange(reproducible=False, between="factors"),
    "gradients, reproducible": lambda: GridExchange(4),
    "factors, reproducible": lambda: FactorExchange(micro_rows=4),
}


if __name__ == "__main__":
    comm = world(sys.argv[2])  # type: ignore[arg-type]
    found = {}
    for kind, entry in LAYERS.items():
        X, y = classified_rows(51, features=int(np.prod(entry.shape)))
        data = Dataset(X.reshape(-1, *entry.shape), y, classes=4, scale=Scale(255.0))
        for name, exchange in EXCHANGES.items():
            model = Sequential(entry.make(), Flatten(), Dense(6), ReLU(), Dense(4), dtype=np.float64)
            trainer = Trainer(
                model, SGD(0.1, 0.9), comm, batch_size=24, exchange=exchange(), average=MovingAverage(0.9)
            )
            epochs = trainer.train(data, data, 2)
            figures = [figure for e in epochs for figure in (e.train_loss, e.valid_loss, e.valid_accuracy)]
            arrays = [array.ravel() for name, array in trainer.state().items() if name != "epoch_sums"]
            found[f"{name}; 24; {kind}"] = np.concatenate([*arrays, figures])
    if comm.rank == 0:
        np.savez(sys.argv[1], **found)
