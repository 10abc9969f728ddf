"""python flipped_bit.py DATA RANK ARRAY: under mpirun, flip a bit of what a rank holds, in the third step."""

import sys

import numpy as np

from ddp_numpy import SGD, Dense, ReLU, ReplicaCheck, Sequential, Trainer, load_data, world

comm = world()
train, valid = load_data(sys.argv[1], comm)
model = Sequential(Dense(8), ReLU(), Dense(train.classes))
trainer = Trainer(model, SGD(0.1, momentum=0.5), comm, replica_check=ReplicaCheck(every=4))


def after_step(rows: int) -> None:
    if comm.rank == 0:
        print(f"step {trainer.step}", flush=True)
    if comm.rank == int(sys.argv[2]) and trainer.step == 2:
        trainer.state()[sys.argv[3]].view(np.uint32)[-1] ^= 1 << 20


for _ in trainer.fit(train, valid, epochs=1, on_step=after_step):
    pass
