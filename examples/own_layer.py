"""A layer of your own: ReLU with a slope that is trained. Use it in the training command, or run this file as a script.

python -m ddp_numpy.train --model-file own_layer.py --epochs 3 --out runs/own_layer
python own_layer.py, or mpirun -n 3 python own_layer.py: trains, saves the model, and loads it again

The commands evaluate, predict, serve and verify take --model-file own_layer.py, too.
"""

from collections.abc import Sequence
from types import EllipsisType
from typing import Any

import numpy as np

from ddp_numpy import SGD, Context, Dense, Layer, Sequential, Trainer, load_data, load_model, save_model, world
from ddp_numpy.nn import EVALUATION, Array


class PReLU(Layer):
    """Y = X where X is above 0, and a X elsewhere. Each column has an a of its own (He et al., arXiv:1502.01852).

    Where the gradients come from: X[r, i] changes the loss through Y[r, i], by 1 above 0 and by a[i] elsewhere. So dX
    is dY above 0 and a dY elsewhere. a[i] changes the loss through column i of every row, by min(X[r, i], 0) times
    dY[r, i]. So da is the sum of min(X, 0) dY over the rows.
    """

    a: Array  # (I,), and da of the same shape: Sequential makes both
    da: Array

    def __init__(self, start: float = 0.25) -> None:
        """start: the slope before training."""
        self.start = start

    def config(self) -> dict[str, Any]:
        """The arguments of __init__, for the model file."""
        return {"start": self.start}

    def parameter_shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        """What is trained: one number for each column."""
        return {"a": input_shape}

    def initialize(self, rng: np.random.Generator) -> None:
        """The values of `a` before the first step."""
        self.a[...] = self.start

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        """X (B, I) -> Y (B, I)."""
        self._X = X
        return np.where(X > 0, X, self.a * X)

    def backward(self, dY: Array, input_gradient: bool = True) -> Array:
        """dY (B, I) -> dX (B, I)."""
        self._dY = dY
        return np.where(self._X > 0, dY, self.a * dY)

    def write_gradients(self, shard: int | EllipsisType = ...) -> None:
        """Fill da (I,). With --reproducible, rows come in shards (shards, B, I), and this takes one of them."""
        X, dY = self._X[shard], self._dY[shard]
        np.sum(np.minimum(X, 0) * dY, axis=0, out=self.da)


def build(input_shape: Sequence[int], classes: int) -> list[Layer]:
    """The network that --model-file asks for."""
    return [Dense(64), PReLU(), Dense(classes)]


def main() -> None:
    """Every rank trains; rank 0 alone prints, and writes own_layer.npz."""
    comm = world()
    train, valid = load_data("digits", comm)
    model = Sequential(*build(train.features.shape[1:], train.classes))
    for epoch in Trainer(model, SGD(lr=0.1), comm).fit(train, valid, epochs=3):
        if comm.rank == 0:
            print(f"epoch {epoch.number}: accuracy {epoch.valid_accuracy:.1%}")
    if comm.rank == 0:
        save_model(model, "own_layer.npz")
        again = load_model("own_layer.npz", layers=[PReLU])  # a file never names code: you say which class it is
        print(f"the first digits: {again.predict(valid.raw(np.arange(8)))}; labels: {valid.labels[:8]}")


if __name__ == "__main__":
    main()
