"""Under mpirun: train two epochs, and print as JSON which rows were trained on and what evaluation counted."""

import json
import sys
from collections import defaultdict

import numpy as np

import ddp_numpy.training.trainer
from ddp_numpy import SGD, Dense, ReLU, Sequential, Trainer, load_data, world
from ddp_numpy.data import Reader


class Recording(Reader):
    """Notes the rows that batches are made of."""

    def read(self, rows, X=None):  # type: ignore[no-untyped-def]
        seen[len(self._data)].extend(rows.tolist())
        return super().read(rows, X)


ddp_numpy.training.trainer.Reader = Recording  # type: ignore[misc]
seen = defaultdict(list)  # by the length of the data
comm = world()
train, valid = load_data(sys.argv[1], comm, valid_fraction=float(sys.argv[2]))
trainer = Trainer(Sequential(Dense(8), ReLU(), Dense(train.classes)), SGD(0.1), comm)
epochs = []
for _ in trainer.fit(train, valid, epochs=2):
    parts = comm.gather(seen[len(train)])
    epochs.append([row for part in parts or [] for row in part])
    seen.clear()
_, correct, evaluated = trainer.evaluate(valid).tolist()
if comm.rank == 0:
    by_prediction = int(np.sum(trainer.model.predict(valid.features) == valid.labels))
    print(
        json.dumps(
            {"epochs": epochs, "evaluated": evaluated, "correct": correct, "correct_by_prediction": by_prediction}
        )
    )
