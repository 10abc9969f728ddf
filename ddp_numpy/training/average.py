"""A moving average of a model's numbers, which often classifies better than the last ones."""

import contextlib
from collections.abc import Iterator

import numpy as np

from ddp_numpy.base import schema
from ddp_numpy.nn import Array, Sequential


class MovingAverage:
    """average += (1 - d) * (weights - average) after each update, of parameters and buffers alike.

    d = min(decay, (1 + n) / (10 + n)) in the update after n others: at first the average forgets quickly, so that the
    first, random weights soon have no part in it (as TensorFlow's ExponentialMovingAverage does). An average of all
    weights is Polyak and Juditsky's (SIAM J. Control Optim. 30, 1992).
    """

    def __init__(self, decay: float = 0.999) -> None:
        """Raises InputError unless decay is a number from 0 to 1."""
        schema.check(decay, schema.Real(0, 1), "MovingAverage: decay")
        self.decay = decay

    def prepare(self, model: Sequential) -> None:
        """Begin with the numbers that a built model has."""
        self._params, self._buffers = model.params.copy(), model.buffers.copy()
        self._scratch = np.empty(max(model.params.size, model.buffers.size), model.dtype)

    @property
    def state(self) -> dict[str, Array]:
        """The averages, by the names that the model's arrays have; to be saved and restored."""
        return {"params": self._params} | ({"buffers": self._buffers} if self._buffers.size else {})

    def update(self, model: Sequential, updates: int) -> None:
        """Take in what the model has become by an update, after so many others."""
        way = 1 - min(self.decay, (1 + updates) / (10 + updates))
        for average, now in ((self._params, model.params), (self._buffers, model.buffers)):
            step = np.subtract(now, average, out=self._scratch[: now.size])
            step *= way
            average += step

    @contextlib.contextmanager
    def in_place(self, model: Sequential) -> Iterator[None]:
        """A block in which the model has the averages in place of its own numbers."""
        own = model.params, model.buffers
        try:
            model.attach_params(self._params)
            model.attach_buffers(self._buffers)
            yield
        finally:
            model.attach_params(own[0])
            model.attach_buffers(own[1])

    def __str__(self) -> str:
        return f"validated with a moving average of the weights, decay {self.decay:g}"
