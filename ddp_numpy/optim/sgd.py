"""Stochastic gradient descent."""

from collections.abc import Mapping, Sequence

import numpy as np

from ddp_numpy.optim.optimizer import Array, Group, Optimizer


class SGD(Optimizer):
    """params -= lr * velocity, where velocity = momentum * velocity + grads (Sutskever et al., ICML 2013)."""

    def __init__(self, lr: float = 0.01, momentum: float = 0.0, groups: Sequence[Group] = ()) -> None:
        super().__init__({"lr": lr, "momentum": momentum}, groups)

    def __str__(self) -> str:
        momentum = self.hyper["momentum"]
        return f"SGD, learning rate {self.lr:g}" + (f", momentum {momentum:g}" if momentum else "")

    def make_state(self, params: Array) -> dict[str, Array]:
        """A velocity (P,), if any parameter has momentum."""
        momenta = [self.hyper["momentum"], *(group.hyper.get("momentum", 0.0) for group in self.groups)]
        return {"velocity": np.zeros_like(params)} if any(momenta) else {}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype."""
        if hyper["momentum"]:
            velocity = state["velocity"]
            np.multiply(velocity, hyper["momentum"], out=velocity)
            np.add(velocity, grads, out=velocity)
            np.multiply(velocity, hyper["lr"], out=grads)
        else:
            np.multiply(grads, hyper["lr"], out=grads)
        np.subtract(params, grads, out=params)
