"""Learning rates by step: pure functions, of which nothing is saved, so that a resumed run goes on with the same rates.

Step 0 is the first update. Behind its last step a schedule stays where it ended.
"""

import abc
import dataclasses
import math


class Schedule(abc.ABC):
    """A learning rate for each step."""

    @abc.abstractmethod
    def __call__(self, step: int) -> float:
        """The rate of an update, after so many updates."""


@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """Always the same."""

    lr: float

    def __call__(self, step: int) -> float:
        return self.lr

    def __str__(self) -> str:
        return f"{self.lr:g}"


@dataclasses.dataclass(frozen=True)
class Step(Schedule):
    """lr, times factor after each so many steps."""

    lr: float
    every: int
    factor: float = 0.1

    def __call__(self, step: int) -> float:
        return self.lr * self.factor ** (step // self.every)

    def __str__(self) -> str:
        return f"{self.lr:g}, times {self.factor:g} every {self.every:,} steps"


@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
    """lr, times factor in the course of so many steps, a little at each."""

    lr: float
    every: int
    factor: float = 0.1

    def __call__(self, step: int) -> float:
        return float(self.lr * self.factor ** (step / self.every))

    def __str__(self) -> str:
        return f"{self.lr:g}, times {self.factor:g} in the course of {self.every:,} steps"


@dataclasses.dataclass(frozen=True)
class Polynomial(Schedule):
    """From lr to final in so many steps: (1 - step / steps)^power of the way is left; with a power of 1 a line."""

    lr: float
    steps: int
    final: float = 0.0
    power: float = 1.0

    def __call__(self, step: int) -> float:
        left = (1 - min(step, self.steps) / self.steps) ** self.power
        return float(self.final + (self.lr - self.final) * left)

    def __str__(self) -> str:
        return f"{self.lr:g} to {self.final:g} in {self.steps:,} steps, polynomial of power {self.power:g}"


@dataclasses.dataclass(frozen=True)
class Cosine(Schedule):
    """From lr to final in so many steps, along half a cosine (Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983)."""

    lr: float
    steps: int
    final: float = 0.0

    def __call__(self, step: int) -> float:
        return _half_cosine(self.lr, self.final, min(step, self.steps) / self.steps)

    def __str__(self) -> str:
        return f"{self.lr:g} to {self.final:g} in {self.steps:,} steps, half a cosine"


@dataclasses.dataclass(frozen=True)
class OneCycle(Schedule):
    """Up from lr / 25 to lr in a part `rise` of the steps, then down to lr / 250,000, along half cosines.

    Smith and Topin, arXiv:1708.07120; with the constants that PyTorch's OneCycleLR has.
    """

    lr: float
    steps: int
    rise: float = 0.3

    def __call__(self, step: int) -> float:
        first, last = self.lr / 25, self.lr / 25e4
        top = max(self.rise * self.steps - 1, 1e-9)  # the step of the highest rate
        if step <= top:
            return _half_cosine(first, self.lr, step / top)
        return _half_cosine(self.lr, last, min(1.0, (step - top) / max(self.steps - 1 - top, 1e-9)))

    def __str__(self) -> str:
        return f"one cycle of {self.steps:,} steps up to {self.lr:g}"


@dataclasses.dataclass(frozen=True)
class WarmUp(Schedule):
    """In the first steps a straight line up to the first rate of a schedule, which begins behind them.

    Goyal et al., arXiv:1706.02677.
    """

    schedule: Schedule
    steps: int

    def __call__(self, step: int) -> float:
        if step < self.steps:
            return self.schedule(0) * (step + 1) / self.steps
        return self.schedule(step - self.steps)

    def __str__(self) -> str:
        return f"{self.schedule}, after {self.steps:,} steps of warm-up"


def _half_cosine(start: float, stop: float, way: float) -> float:
    """What lies between two rates, where so much of the way is gone, 0 to 1."""
    return stop + (start - stop) * (1 + math.cos(math.pi * way)) / 2
