"""Learning rates by layer, for large batches: an update is a part of each parameter, whatever its gradient is."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ddp_numpy.optim.adam import AdamW
from ddp_numpy.optim.optimizer import Array, Group, Optimizer


class LARS(Optimizer):
    """velocity = momentum * velocity + lr * ratio * (grads + weight_decay * params), and params -= velocity.

    ratio = trust * |params| / (|grads| + weight_decay * |params|), of each parameter as a whole; 1 if either norm is 0
    (You, Gitman and Ginsburg, arXiv:1708.03888, algorithm 1). adapt 0, of a group: ratio 1.
    """

    by_parameter = True

    def __init__(
        self,
        lr: float = 0.1,
        momentum: float = 0.9,
        trust: float = 0.001,
        *,
        weight_decay: float = 0.0,
        groups: Sequence[Group] = (),
    ) -> None:
        hyper = {"lr": lr, "momentum": momentum, "trust": trust, "weight_decay": weight_decay, "adapt": 1.0}
        super().__init__(hyper, groups)

    def __str__(self) -> str:
        trust, momentum = self.hyper["trust"], self.hyper["momentum"]
        return f"LARS, learning rate {self.lr:g}, momentum {momentum:g}, trust {trust:g}" + self._decay()

    def make_state(self, params: Array) -> dict[str, Array]:
        """A velocity (P,)."""
        return {"velocity": np.zeros_like(params)}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype: a whole parameter."""
        velocity, rate = state["velocity"], hyper["lr"]
        weights, gradient = self.norm(params), self.norm(grads)
        if hyper["adapt"] and weights and gradient:
            rate *= hyper["trust"] * weights / (gradient + hyper["weight_decay"] * weights)
        self.add_decay(params, grads, hyper)
        velocity *= hyper["momentum"]
        grads *= rate
        velocity += grads
        params -= velocity


class LAMB(AdamW):
    """params -= lr * ratio * u, where u is AdamW's: m / (sqrt(v) + epsilon) + weight_decay * params.

    ratio = |params| / |u|, of each parameter as a whole; 1 if either norm is 0 (You et al., ICLR 2020,
    arXiv:1904.00962, algorithm 2). adapt 0, of a group: ratio 1.
    """

    by_parameter = True
    _more: ClassVar = {"adapt": 1.0}

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-6,
        *,
        weight_decay: float = 0.01,
        groups: Sequence[Group] = (),
    ) -> None:
        super().__init__(lr, beta1, beta2, epsilon, weight_decay=weight_decay, groups=groups)

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype: a whole parameter."""
        self.direction(grads, state, hyper)
        self.add_decay(params, grads, hyper)
        rate, weights, step = hyper["lr"], self.norm(params), self.norm(grads)
        if hyper["adapt"] and weights and step:
            rate *= weights / step
        grads *= rate
        params -= grads
