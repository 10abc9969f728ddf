"""An optimizer of your own, and a checkpoint that keeps its state.

python own_optimizer.py, or mpirun -n 3 python own_optimizer.py: the same weights, to the last bit
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ddp_numpy import Dense, FactorExchange, Optimizer, ReLU, Sequential, Trainer, load_data, world
from ddp_numpy.nn import Array
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot


class AdaMax(Optimizer):
    """params -= lr * mean / largest, as in section 7.1 of Adam's paper (Kingma and Ba, arXiv:1412.6980).

    mean is a running mean of the gradients. It begins at 0, so after t updates it is too small by the factor
    1 - beta1^t, by which it is divided. largest is the largest |gradient| so far, where older ones count less and less.
    So a parameter moves by about lr, however large its gradients are.
    """

    def __init__(self, lr: float = 0.002, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8) -> None:
        """epsilon: keeps a parameter that has had no gradient yet from a division by 0."""
        super().__init__({"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": epsilon})

    def make_state(self, params: Array) -> dict[str, Array]:
        """All that is remembered, a number for each of the parameters (P,). Checkpoints hold it; ranks compare it."""
        return {"mean": np.zeros_like(params), "largest": np.zeros_like(params)}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params, grads and state are the same run (n,) of each vector, and are changed in place.

        A run, as ranks may share the parameters: each updates some of them. self.steps counts updates, this one too.
        """
        mean, largest = state["mean"], state["largest"]
        mean *= hyper["beta1"]
        mean += (1 - hyper["beta1"]) * grads
        np.maximum(hyper["beta2"] * largest, np.abs(grads), out=largest)
        rate = hyper["lr"] / (1 - hyper["beta1"] ** self.steps)
        params -= rate * mean / (largest + hyper["epsilon"])


def main() -> None:
    """Train two epochs at once. Then train one, write a checkpoint, and let another trainer go on from it."""
    comm = world()
    train, valid = load_data("digits", comm)

    def new_trainer() -> Trainer:
        model = Sequential(Dense(32), ReLU(), Dense(train.classes))
        # FactorExchange: the same bits on any number of ranks. Without it they are the same up to rounding.
        return Trainer(model, AdaMax(lr=0.005), comm, exchange=FactorExchange())

    whole = new_trainer()
    for epoch in whole.fit(train, valid, epochs=2):
        if comm.rank == 0:
            print(f"epoch {epoch.number}: accuracy {epoch.valid_accuracy:.1%}")

    stopped = new_trainer()
    stopped.train(train, valid, epochs=1)
    if comm.rank == 0:
        with Path("own_optimizer.npz").open("wb") as file:
            write_snapshot(file, Snapshot(stopped.epoch, stopped.step, stopped.state()))

    resumed = new_trainer()
    resumed.prepare(train)  # builds the model and the optimizer's state, for `restore` to fill
    # on_root: rank 0 reads the file, and the others get what it has read.
    snapshot = comm.on_root(lambda: read_snapshot(Path("own_optimizer.npz")))
    resumed.restore(snapshot.epoch, snapshot.step, snapshot.arrays)
    resumed.train(train, valid, epochs=2)

    if comm.rank == 0:
        print(f"weights {whole.model.digest()[:16]}, and {resumed.model.digest()[:16]} if resumed from the checkpoint")


if __name__ == "__main__":
    main()
