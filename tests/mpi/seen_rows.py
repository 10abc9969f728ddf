"""Under mpirun: train two epochs, and print as JSON which rows were trained on and what evaluation counted."""

import json
import sys

import numpy as np

from ddp_numpy import SGD, Dataset, Dense, ReLU, Sequential, Trainer, load_data, world


class Recording(Dataset):
    """Notes the rows that batches are gathered from."""

    def gather(self, rows, out):  # type: ignore[no-untyped-def]
        seen.extend(np.asarray(rows).tolist())
        return super().gather(rows, out)


seen: list[int] = []
comm = world()
train, valid = load_data(sys.argv[1], comm, valid_fraction=float(sys.argv[2]))
recording = Recording(train.features, train.labels, train.classes, train.divisor)
trainer = Trainer(Sequential(Dense(8), ReLU(), Dense(train.classes)), SGD(0.1), comm)
epochs = []
for _ in trainer.fit(recording, valid, epochs=2):
    parts = comm.gather(seen[:])
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
