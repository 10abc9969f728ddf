"""Stochastic gradient descent."""

from typing import Any

import numpy as np
import numpy.typing as npt


class SGD:
    """params -= lr * grads."""

    def __init__(self, lr: float = 0.01) -> None:
        self.lr = lr

    def step(self, params: npt.NDArray[Any], grads: npt.NDArray[Any]) -> None:
        """params (P,) and grads (P,) of one dtype; updates params in place, and uses grads up."""
        np.multiply(grads, self.lr, out=grads)
        np.subtract(params, grads, out=params)
