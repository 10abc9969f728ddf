"""Under mpirun: flip one bit of one weight on one rank, in the second epoch of three."""

import sys

import numpy as np

from ddp_numpy import SGD, Dense, ReLU, Sequential, Trainer, load_data, world

comm = world()
train, valid = load_data(sys.argv[1], comm)
model = Sequential(Dense(8), ReLU(), Dense(train.classes))
trainer = Trainer(model, SGD(0.1), comm)
for epoch in trainer.fit(train, valid, epochs=3):
    if comm.rank == 0:
        print(f"epoch {epoch.number} ended", flush=True)
    if comm.rank == int(sys.argv[2]):
        model.params.view(np.uint32)[5] ^= 1
