"""How good a trained network is on labelled rows, all of which are looked at once."""

import dataclasses
import functools
import heapq
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.data import Part
from ddp_numpy.deploy.inputs import Inputs
from ddp_numpy.nn import Array, MeanSquaredError, Sequential, SoftmaxCrossEntropy
from ddp_numpy.training.metrics import interval

MISTAKES = 24
"""The worst of all rows that are kept."""
_BINS = 15  # of confidence, as in Guo et al.


class Mistake(NamedTuple):
    """A row that the model is wrong about, the worst first if they are sorted."""

    minus_loss: float
    """By which mistakes are compared: of numbers, minus the squared error."""
    row: int
    """Its place among the rows of its part, or its number in the data."""
    label: Any
    """A class, by its number; or the number that was to be predicted."""
    predicted: Any
    confidence: float
    """The probability of the class that was predicted; NaN of numbers."""
    shown: Array
    """The row's values (k,), as they stand in the data."""


class Judged(NamedTuple):
    """What is to be known of the rows of a part."""

    given: int
    """How many the part had, with those that were left out."""
    labels: Array
    """(m,), numbers of classes, or numbers that were to be predicted."""
    predicted: Array
    """(m,)."""
    confidences: Array
    """(m,), float64, the probability of what was predicted; NaN of numbers."""
    losses: Array
    """(m,), float64."""
    mistakes: list[Mistake]


def judge(part: Part, inputs: Inputs, model: Sequential) -> Judged:
    """How good the model is on the rows of a part. Raises InputError as `Inputs` does."""
    rows = inputs.rows(part)
    y, logits = rows.labels, inputs.logits(rows)
    assert y is not None, "inputs that use labels have some"
    if model.target is None:
        predicted: Array = logits.argmax(axis=1)
        confidences = model.probabilities_of(logits).max(axis=1, initial=0).astype(np.float64)
        losses = SoftmaxCrossEntropy(logits.shape[1], logits.dtype).forward(logits, y)[0].astype(np.float64)
        wrong = np.flatnonzero(predicted != y)
    else:
        predicted, confidences = model.predictions_of(logits), np.full(len(y), np.nan)
        scaled = (y - model.target.shift) / model.target.divisor
        losses = MeanSquaredError(1, np.float64).forward(logits.astype(np.float64), scaled)[0].copy()
        wrong = np.flatnonzero(losses > 0)
    worst = wrong[np.lexsort((wrong, -losses[wrong]))[:MISTAKES]]
    places = np.arange(len(part.rows)) if rows.numbers.kept is None else rows.numbers.kept
    shown = rows.rows.iloc[worst].to_numpy() if hasattr(rows.rows, "iloc") else rows.rows[worst]
    mistakes = [
        Mistake(-losses[at], int(places[at]), y[at].item(), predicted[at].item(), confidences[at], values.ravel())
        for at, values in zip(worst.tolist(), shown, strict=True)
    ]
    return Judged(len(part.rows), y, predicted, confidences, losses, mistakes)


class OfClass(NamedTuple):
    """The figures of one class."""

    name: str
    precision: float
    """Of the rows that were taken for it, the share that is; 0 if none was."""
    recall: float
    """Of its rows, the share that was found; 0 if it has none."""
    f1: float
    """The harmonic mean of both; 0 if both are."""
    rows: int


class Bin(NamedTuple):
    """The rows whose predictions have about the same confidence."""

    confidence: float
    """The mean."""
    accuracy: float
    rows: int


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What all rows say together. They are added up in their order, so no rank count changes a bit."""

    names: tuple[str, ...]
    """Of the classes; () if numbers are predicted."""
    labels: Array
    """(n,), as in Judged, like the next three."""
    predicted: Array
    confidences: Array
    losses: Array
    mistakes: list[Mistake]
    """The worst first, with their numbers in the data."""

    @classmethod
    def of(cls, judged: Sequence[Judged], model: Sequential) -> "Evaluation":
        """Put together the parts of a source, in their order. Raises InputError if there is no row."""
        mistakes: list[Mistake] = []
        first = 1
        for part in judged:
            more = (one._replace(row=first + one.row) for one in part.mistakes)
            mistakes = heapq.nsmallest(MISTAKES, [*mistakes, *more], key=lambda mistake: mistake[:2])
            first += part.given
        labels, predicted, confidences, losses = (
            np.concatenate([getattr(part, name) for part in judged])
            for name in ("labels", "predicted", "confidences", "losses")
        )
        if not len(labels):
            raise InputError("there is no row to evaluate the model on: a value is missing in each")
        return cls(tuple(map(str, model.classes)), labels, predicted, confidences, losses, mistakes)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def loss(self) -> float:
        """The mean of all rows: cross-entropy in nats; of numbers, the squared error of scaled ones."""
        return float(self.losses.mean())

    @property
    def accuracy(self) -> float:
        """The share of rows whose class was found."""
        return float((self.predicted == self.labels).mean())

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """In which it lies to 95 %, if these rows are a random part of all that there could be."""
        return interval(int((self.predicted == self.labels).sum()), len(self))

    @functools.cached_property
    def confusion(self) -> Array:
        """How many rows of each class (rows) were taken for each (columns), (classes, classes)."""
        k = len(self.names)
        return np.bincount(self.labels * k + self.predicted, minlength=k * k).reshape(k, k)

    @functools.cached_property
    def classes(self) -> list[OfClass]:
        """The figures of each."""
        hits, actual, taken = np.diag(self.confusion), self.confusion.sum(axis=1), self.confusion.sum(axis=0)
        return [
            OfClass(name, _share(hit, guesses), _share(hit, rows), _share(2 * hit, rows + guesses), rows)
            for name, hit, rows, guesses in zip(self.names, hits.tolist(), actual.tolist(), taken.tolist(), strict=True)
        ]

    @functools.cached_property
    def calibration(self) -> list[Bin]:
        """Bins of equal width of the confidence of predictions, without empty ones (Guo et al. 2017, arXiv:1706.04599).

        If a model is calibrated, of predictions with a confidence of 0.8 eight in ten are right.
        """
        places = np.clip(np.ceil(self.confidences * _BINS).astype(int) - 1, 0, _BINS - 1)
        right, found = self.predicted == self.labels, []
        for place in np.unique(places).tolist():
            within = places == place
            found.append(Bin(float(self.confidences[within].mean()), float(right[within].mean()), int(within.sum())))
        return found

    @property
    def calibration_error(self) -> float:
        """How far accuracy and confidence are apart, on average over rows (ECE, Guo et al.)."""
        return sum(abs(one.accuracy - one.confidence) * one.rows for one in self.calibration) / len(self)

    @property
    def rmse(self) -> float:
        """The root of the mean squared error, in the units of the numbers."""
        return math.sqrt(float(((self.predicted - self.labels) ** 2).mean()))

    @property
    def mae(self) -> float:
        """The mean absolute error, in the units of the numbers."""
        return float(np.abs(self.predicted - self.labels).mean())

    @property
    def r2(self) -> float:
        """The share of the variance of the numbers that predictions explain; 1 or 0 if they are all the same."""
        variance = float(np.var(self.labels))
        return 1 - self.rmse**2 / variance if variance else float(self.rmse == 0)

    def confused(self, most: int) -> list[tuple[str, str, int]]:
        """The classes that are taken for others most often: which, for which, and how many rows."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:most]
        pairs = zip(*(axis.tolist() for axis in np.unravel_index(order, wrong.shape)), strict=True)
        return [(self.names[a], self.names[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]]

    def figures(self) -> dict[str, Any]:
        """All, as JSON can hold them."""
        found: dict[str, Any] = {"rows": len(self), "loss": self.loss}
        if not self.names:
            return found | {"rmse": self.rmse, "mae": self.mae, "r2": self.r2}
        return found | {
            "accuracy": self.accuracy,
            "accuracy_interval": self.accuracy_interval,
            "calibration_error": self.calibration_error,
            "classes": [one._asdict() for one in self.classes],
            "confusion": self.confusion.tolist(),
            "calibration": [one._asdict() for one in self.calibration],
        }


def mean_of(classes: Sequence[OfClass]) -> OfClass:
    """The mean over classes that have rows, each counted alike (macro average)."""
    there = [one for one in classes if one.rows]
    precision, recall, f1 = (
        sum(getattr(one, name) for one in there) / len(there) for name in ("precision", "recall", "f1")
    )
    return OfClass("mean", precision, recall, f1, sum(one.rows for one in there))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
