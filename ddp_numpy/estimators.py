"""Networks as scikit-learn's estimators: for its pipelines, searches and scores. Needs scikit-learn.

from ddp_numpy.estimators import Classifier
Classifier(hidden=(64,), epochs=50).fit("table.csv").predict(frame)
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import world
from ddp_numpy.data import TableOptions, load_table, prepare, read_frame
from ddp_numpy.making import chosen_scale, make_trainer, table_options
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.settings import Settings


class _Estimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """What a classifier and a regressor share. Under mpirun all ranks call fit, and train one network together."""

    _task: str

    def __init__(
        self,
        hidden: tuple[int, ...] = (128, 64),
        epochs: int = 50,
        batch_size: int = 64,
        optimizer: str = "adam",
        lr: float | None = None,
        random_state: int = 1,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """options: all others of training, by their names on the command line: {"schedule": "cosine", "dropout": 0.2}.

        lr: the learning rate, by default the optimizer's own.
        """
        self.hidden, self.epochs, self.batch_size = hidden, epochs, batch_size
        self.optimizer, self.lr, self.random_state, self.options = optimizer, lr, random_state, options

    def fit(self, X: Any, y: Any = None) -> Self:
        """Train on labelled rows, all of them. Collective: of all ranks those of rank 0 count.

        X, y: arrays (n, d) and (n,), or a DataFrame and its labels; or X alone, a DataFrame or the path of a table with
        a column of labels, as load_data takes it. Raises ValueError for rows or options that can't be.
        """
        source: Any = X
        if not _is_table(X):
            X, y = validate_data(self, X, y, dtype="numeric", ensure_min_samples=2)
            y = column_or_1d(y, warn=True)
            if self._task == "classify":
                check_classification_targets(y)
                if len(np.unique(y)) < 2:
                    raise ValueError(f"{type(self).__name__} can't train when only one class is present")
        if y is not None:
            source = X, y
        try:
            self._train(source)
        except InputError as error:
            raise ValueError(str(error)) from error
        return self

    def _train(self, source: Any) -> None:
        settings, comm = self._settings(), world()
        options = TableOptions(**table_options(settings.data))
        train = prepare(load_table(source, comm, options), chosen_scale(settings.data), options.missing)
        trainer = make_trainer(settings, train, comm)
        epochs = trainer.train(train, None, settings.training.epochs)
        self.model_: Sequential = trainer.model
        """The trained network."""
        self.loss_curve_ = [epoch.train_loss for epoch in epochs]
        """The mean loss of the training rows in each epoch."""
        self.n_iter_ = len(epochs)
        if train.columns:
            self.feature_names_in_ = np.array([column.name for column in train.columns], object)
            self.n_features_in_ = len(train.columns)
        if self._task == "classify":
            self.classes_ = np.array(train.class_names or range(train.classes))

    def _settings(self) -> Settings:
        given = {"hidden": self.hidden, "epochs": self.epochs, "batch-size": self.batch_size, "lr": self.lr}
        given |= {"optimizer": self.optimizer, "seed": self.random_state, "task": self._task, "dtype": "float64"}
        given |= self.options or {}
        return Settings.of({name: value for name, value in given.items() if value is not None})

    def _predicted(self, method: str, X: Any) -> Array:
        check_is_fitted(self)
        if not _is_table(X):
            X = validate_data(self, X, dtype="numeric", reset=False)
        try:
            if isinstance(X, str | os.PathLike):
                X = read_frame(Path(X), TableOptions(**table_options(self._settings().data)))
            predictions: Array = getattr(self.model_, method)(X)
        except InputError as error:
            raise ValueError(str(error)) from error
        return predictions

    def predict(self, X: Any) -> Array:
        """The class or the number (n,) that is predicted of each row of an array, a DataFrame or the path of a table.

        The columns of a table are found by name, in any order. Raises ValueError for rows that the model can't take.
        """
        return self._predicted("predict", X)


class Classifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A network that predicts classes; they are called as in the data."""

    _task = "classify"

    def predict_proba(self, X: Any) -> Array:
        """The probabilities (n, classes) of the classes, in the order of `classes_`. X and errors: as in `predict`."""
        return self._predicted("predict_proba", X)


class Regressor(RegressorMixin, _Estimator):  # type: ignore[misc]
    """A network that predicts numbers."""

    _task = "regress"


def _is_table(X: Any) -> bool:
    """Whether its columns have names: it is a DataFrame, or the path of a table."""
    return hasattr(X, "iloc") or isinstance(X, str | os.PathLike)
