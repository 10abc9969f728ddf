"""Stochastic gradient descent."""

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class SGD:
    """params -= lr * velocity, where velocity = momentum * velocity + grads (Sutskever et al., ICML 2013)."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.0) -> None:
        self.lr, self.momentum = lr, momentum
        self.state: dict[str, Array] = {}
        """What `step` remembers, by name: with the parameters, all that is needed to go on."""

    def __str__(self) -> str:
        return f"SGD, learning rate {self.lr:g}" + (f", momentum {self.momentum:g}" if self.momentum else "")

    def prepare(self, params: Array) -> None:
        """Make the state for parameters (P,)."""
        self.state = {"velocity": np.zeros_like(params)} if self.momentum else {}

    def step(self, params: Array, grads: Array) -> None:
        """params (P,) and grads (P,) of one dtype; updates params in place, and uses grads up."""
        if self.momentum:
            velocity = self.state["velocity"]
            np.multiply(velocity, self.momentum, out=velocity)
            np.add(velocity, grads, out=velocity)
            np.multiply(velocity, self.lr, out=grads)
        else:
            np.multiply(grads, self.lr, out=grads)
        np.subtract(params, grads, out=params)
