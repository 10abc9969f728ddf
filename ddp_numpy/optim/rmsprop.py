"""Gradients over their running root mean square."""

from collections.abc import Mapping, Sequence

import numpy as np

from ddp_numpy.optim.optimizer import Array, Group, Optimizer


class RMSprop(Optimizer):
    """params -= lr * velocity, where velocity = momentum * velocity + grads / (sqrt(v) + epsilon).

    v is a running mean of grads^2, with decay of what it was (Tieleman and Hinton, Coursera: Neural networks for
    machine learning, lecture 6.5, 2012). weight_decay is part of the gradient, as in SGD.
    """

    def __init__(
        self,
        lr: float = 0.001,
        decay: float = 0.99,
        momentum: float = 0.0,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        groups: Sequence[Group] = (),
    ) -> None:
        hyper = {"lr": lr, "decay": decay, "momentum": momentum, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(hyper, groups)

    def __str__(self) -> str:
        momentum = self.hyper["momentum"]
        means = f"decay {self.hyper['decay']:g}, epsilon {self.hyper['epsilon']:g}"
        text = f"RMSprop, learning rate {self.lr:g}, {means}"
        return text + (f", momentum {momentum:g}" if momentum else "") + self._decay()

    def make_state(self, params: Array) -> dict[str, Array]:
        """The running mean (P,), and a velocity (P,) if any parameter has momentum."""
        velocity = {"velocity": np.zeros_like(params)} if self.has("momentum") else {}
        return {"square": np.zeros_like(params), **velocity}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype."""
        self.add_decay(params, grads, hyper)
        square, scratch = state["square"], self.scratch(grads.size)
        square *= hyper["decay"]
        np.multiply(grads, grads, out=scratch)
        scratch *= 1 - hyper["decay"]
        square += scratch
        np.sqrt(square, out=scratch)
        scratch += hyper["epsilon"]
        grads /= scratch
        if hyper["momentum"]:
            velocity = state["velocity"]
            velocity *= hyper["momentum"]
            velocity += grads
            np.multiply(velocity, hyper["lr"], out=grads)
        else:
            grads *= hyper["lr"]
        params -= grads
