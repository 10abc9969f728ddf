"""The figures of an epoch."""

import dataclasses
import math
import sys
from typing import Any

import numpy as np

from ddp_numpy.data import Dataset
from ddp_numpy.nn import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Epoch:
    """The figures of one epoch, over all rows and all ranks. Losses are means per row; of classes, they are in nats.

    Of classes there are accuracies, of numbers to predict roots of mean squared errors; the others are None.
    """

    number: int
    train_loss: float
    """Mean over the epoch's rows of the loss each had in its own step, before that step's update."""
    train_accuracy: float | None = None
    train_rmse: float | None = None
    """In the units of the numbers to predict; of each row in its own step, too."""
    valid_loss: float | None = None
    """None if no rows validate, and then all others that begin with valid, too."""
    valid_accuracy: float | None = None
    valid_rmse: float | None = None
    valid_r2: float | None = None
    """The share of the variance of the rows that validate which the predictions explain."""
    lr: float
    """The learning rate of the epoch's last update."""
    images_per_second: float
    """Training rows of all ranks over the time of the training steps alone."""
    waiting: tuple[float, ...] = ()
    """Of each rank, the share of the training steps' time that it waited in sums for others."""
    seconds: float
    """Training and evaluation."""

    @property
    def score(self) -> dict[str, float]:
        """By name, what tells the best epoch, a finite number: the validation accuracy, or R squared."""
        if self.valid_accuracy is not None:
            return {"valid_accuracy": self.valid_accuracy}
        assert self.valid_r2 is not None, "an epoch has one or the other"
        return {"valid_r2": self.valid_r2 if math.isfinite(self.valid_r2) else -sys.float_info.max}

    def as_dict(self) -> dict[str, Any]:
        """For JSON, which has no word for a number that is not finite but null."""
        values = {name: value for name, value in dataclasses.asdict(self).items() if value is not None}
        epoch, waiting = values.pop("number"), [round(share, 4) for share in values.pop("waiting")]
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        return {"epoch": epoch, **numbers, **({"waiting": waiting} if waiting else {})}


def figures(kind: str, sums: Array, data: Dataset) -> dict[str, float]:
    """Figures of sums of loss, score and rows, by name: those of an Epoch that begin with the kind, "train" or "valid".

    A third kind is "test", with the same figures as "valid".

    Example: predictions 1, 3 of 2, 4 have squared errors 1, 1, so the root of their mean is 1; 2 and 4 themselves are
    1 off their mean, so R squared is 1 - (1 + 1) / (1 + 1) = 0. If the numbers are all the same, it is 1 or 0.
    """
    loss, score, rows = sums.tolist()
    found = {f"{kind}_loss": loss / rows}
    if data.target is None:
        return found | {f"{kind}_accuracy": score / rows}
    squares = score * float(data.target.divisor[0]) ** 2
    found[f"{kind}_rmse"] = math.sqrt(squares / rows)
    if kind != "train":
        variance = float(np.var(data.labels))
        found[f"{kind}_r2"] = 1 - squares / rows / variance if variance else float(squares == 0)
    return found


def interval(right: int, rows: int) -> tuple[float, float]:
    """The least and the largest share that so many rows out of all go with, to 95 % (Wilson 1927, JASA 22:158).

    Example: 96 right of 100 are a share from 0.902 to 0.984.
    """
    z = 1.959964  # 95 % of a normal distribution lie within so many standard deviations
    share, spread = right / rows, z * z / rows
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / rows + spread / rows / 4) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
