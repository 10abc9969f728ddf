"""Training on machines that fail: how often to write a checkpoint, and what share of the time trains."""

import math
from typing import NamedTuple

import numpy as np

from ddp_numpy.nn import Array

_GAPS, _INTERVALS = 50_000, 400  # drawn; tried, to within 1 % of each other


class Failures(NamedTuple):
    """What goes wrong, and what it costs, in seconds."""

    between: float
    """From a start or a failure to the next failure of any host, on average: exponentially distributed."""
    checkpoint: float
    """To write one, while nothing trains."""
    restart: float
    """From a failure until training goes on."""


class Interval(NamedTuple):
    """Seconds of training between two checkpoints."""

    seconds: float
    trains: float
    """The share of all time that trains, and is not lost again."""


def young(failures: Failures) -> float:
    """The best interval, to the first order: Young 1974, doi:10.1145/361147.361115."""
    return math.sqrt(2 * failures.checkpoint * failures.between)


def daly(failures: Failures) -> float:
    """The same to a higher order: Daly 2006, doi:10.1016/j.future.2004.11.016."""
    between, checkpoint = failures.between, failures.checkpoint
    if checkpoint >= 2 * between:
        return between
    root = math.sqrt(checkpoint / (2 * between))
    return math.sqrt(2 * checkpoint * between) * (1 + root / 3 + root**2 / 9) - checkpoint


class FailingJob:
    """A job that goes on behind its last checkpoint after each failure."""

    def __init__(self, failures: Failures, seed: int = 1) -> None:
        self._failures = failures
        self._gaps = np.random.default_rng(seed).exponential(failures.between, _GAPS)

    def trained(self, seconds: float) -> float:
        """The share of the time that trains with this interval: what was written before each failure, over all time."""
        in_a_row = seconds + self._failures.checkpoint
        written = np.maximum(self._gaps - self._failures.restart, 0) // in_a_row
        return float(seconds * written.sum() / self._gaps.sum())

    def best(self) -> Interval:
        """The interval with which most trains, among those around Young's."""
        tried: Array = young(self._failures) * np.geomspace(1 / 8, 8, _INTERVALS)
        return max((Interval(seconds, self.trained(seconds)) for seconds in tried.tolist()), key=lambda own: own.trains)
