"""An optimizer of a third party's, with state of every kind."""

from collections.abc import Mapping

import numpy as np

from ddp_numpy import Optimizer


class Adaptive(Optimizer):
    """A third party's: with a vector, an array of another shape and a number to remember."""

    def __init__(self) -> None:
        super().__init__({"lr": 0.1})

    def make_state(self, params: np.ndarray) -> dict[str, np.ndarray]:
        return {"squares": np.zeros_like(params), "largest": np.zeros((2, 3)), "scale": np.array(1.0)}

    def update(
        self, params: np.ndarray, grads: np.ndarray, state: Mapping[str, np.ndarray], hyper: Mapping[str, float]
    ) -> None:
        state["squares"][...] += grads * grads
        self.state["largest"][self.steps % 2] = np.maximum(self.state["largest"][self.steps % 2], np.abs(grads).max())
        self.state["scale"][...] *= 0.99
        correction = 1 - 0.9**self.steps
        params -= hyper["lr"] * float(self.state["scale"]) * correction * grads / (1e-3 + np.sqrt(state["squares"]))
