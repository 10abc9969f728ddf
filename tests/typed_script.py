"""A script as a user writes it, on every part of the public interface: test_packaging.py lets mypy --strict read it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ddp_numpy import (
    Context,
    Dataset,
    Dense,
    EarlyStopping,
    Layer,
    MovingAverage,
    Optimizer,
    ReLU,
    Sequential,
    SoftmaxCrossEntropy,
    Trainer,
    load_data,
    load_model,
    save_model,
    world,
)
from ddp_numpy.estimators import Classifier
from ddp_numpy.nn import EVALUATION, Array


class Doubled(Layer):
    """Every number times two."""

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        return X * 2

    def backward(self, dY: Array, input_gradient: bool = True) -> Array | None:
        return dY * 2 if input_gradient else None


class SignDescent(Optimizer):
    """Each weight moves by the learning rate, against the sign of its gradient."""

    def make_state(self, params: Array) -> dict[str, Array]:
        return {}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        params -= hyper["lr"] * np.sign(grads)


def train(out: Path) -> float:
    comm = world()
    train_data: Dataset
    train_data, valid_data = load_data("digits", comm)
    model = Sequential(Dense(32), ReLU(), Doubled(), Dense(train_data.classes))
    trainer = Trainer(
        model,
        SignDescent({"lr": 0.001}),
        comm,
        batch_size=64,
        seed=1,
        loss=partial(SoftmaxCrossEntropy, smoothing=0.1),
        average=MovingAverage(0.999),
        early_stopping=EarlyStopping(10),
    )
    best = 0.0
    for epoch in trainer.fit(train_data, valid_data, epochs=2):
        assert epoch.valid_accuracy is not None
        best = max(best, epoch.valid_accuracy)
    if comm.rank == 0:
        with trainer.averaged():
            save_model(model, out)
    return best


def classify(path: Path, rows: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.generic], Array]:
    model = load_model(path, layers=[Doubled])
    return model.predict(rows), model.predict_proba(rows)


def by_scikit_learns_conventions(X: npt.NDArray[np.float32], y: npt.NDArray[np.int64]) -> float:
    return float(Classifier(hidden=(16,), epochs=20, lr=0.01).fit(X, y).score(X, y))
