"""Stochastic gradient descent."""

from collections.abc import Mapping, Sequence

import numpy as np

from ddp_numpy.optim.optimizer import Array, Group, Optimizer


class SGD(Optimizer):
    """params -= lr * velocity, where velocity = momentum * velocity + grads (Sutskever et al., ICML 2013).

    nesterov: params -= lr * (grads + momentum * velocity) instead, the gradient where the momentum leads to (the same
    paper). weight_decay: grads + weight_decay * params take the place of grads, as if the loss had a term
    weight_decay / 2 * |params|^2 (L2).
    """

    def __init__(
        self,
        lr: float = 0.01,
        momentum: float = 0.0,
        groups: Sequence[Group] = (),
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__({"lr": lr, "momentum": momentum, "weight_decay": weight_decay}, groups)
        self.nesterov = nesterov

    def __str__(self) -> str:
        momentum, kind = self.hyper["momentum"], "Nesterov momentum" if self.nesterov else "momentum"
        return f"SGD, learning rate {self.lr:g}" + (f", {kind} {momentum:g}" if momentum else "") + self._decay()

    def make_state(self, params: Array) -> dict[str, Array]:
        """A velocity (P,), if any parameter has momentum."""
        return {"velocity": np.zeros_like(params)} if self.has("momentum") else {}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype."""
        self.add_decay(params, grads, hyper)
        if hyper["momentum"]:
            velocity = state["velocity"]
            np.multiply(velocity, hyper["momentum"], out=velocity)
            np.add(velocity, grads, out=velocity)
            if self.nesterov:
                ahead = np.multiply(velocity, hyper["momentum"], out=self.scratch(params.size))
                np.add(grads, ahead, out=grads)
                np.multiply(grads, hyper["lr"], out=grads)
            else:
                np.multiply(velocity, hyper["lr"], out=grads)
        else:
            np.multiply(grads, hyper["lr"], out=grads)
        np.subtract(params, grads, out=params)
