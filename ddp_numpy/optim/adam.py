"""Adaptive moments."""

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from ddp_numpy.optim.optimizer import Array, Group, Optimizer


class Adam(Optimizer):
    """params -= lr * m / (sqrt(v) + epsilon), where m and v are running means of grads and of grads^2.

    Both are corrected for their first value, 0, by the number of updates (Kingma and Ba, ICLR 2015, arXiv:1412.6980,
    algorithm 1). weight_decay is part of the gradient, as in SGD.
    """

    _more: ClassVar[dict[str, float]] = {}
    """Further hyperparameters of a subclass, and their values."""

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.0,
        groups: Sequence[Group] = (),
    ) -> None:
        hyper = {"lr": lr, "beta1": beta1, "beta2": beta2, "epsilon": epsilon, "weight_decay": weight_decay}
        super().__init__(hyper | self._more, groups)

    def __str__(self) -> str:
        beta1, beta2, epsilon = (self.hyper[name] for name in ("beta1", "beta2", "epsilon"))
        moments = f"betas {beta1:g} and {beta2:g}, epsilon {epsilon:g}"
        return f"{type(self).__name__}, learning rate {self.lr:g}, {moments}" + self._decay()

    def make_state(self, params: Array) -> dict[str, Array]:
        """Both running means (P,)."""
        return {"mean": np.zeros_like(params), "square": np.zeros_like(params)}

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype."""
        self.add_decay(params, grads, hyper)
        self.direction(grads, state, hyper)
        grads *= hyper["lr"]
        params -= grads

    def direction(self, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """Take grads (n,) into the running means, and overwrite them with m / (sqrt(v) + epsilon), corrected."""
        mean, square, scratch = state["mean"], state["square"], self.scratch(grads.size)
        beta1, beta2 = hyper["beta1"], hyper["beta2"]
        mean *= beta1
        mean += np.multiply(grads, 1 - beta1, out=scratch)
        square *= beta2
        np.multiply(grads, grads, out=grads)
        grads *= 1 - beta2
        square += grads
        np.sqrt(square, out=grads)
        grads *= 1 / math.sqrt(1 - beta2**self.steps)
        grads += hyper["epsilon"]
        np.divide(mean, grads, out=grads)
        grads *= 1 / (1 - beta1**self.steps)


class AdamW(Adam):
    """Adam, with weight decay as a step of its own: params -= lr * weight_decay * params.

    So it is not divided by what v is for each parameter (Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101).
    """

    def __init__(
        self,
        lr: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        weight_decay: float = 0.01,
        groups: Sequence[Group] = (),
    ) -> None:
        super().__init__(lr, beta1, beta2, epsilon, weight_decay=weight_decay, groups=groups)

    def _decay(self, kind: str = "decoupled") -> str:
        return super()._decay(kind)

    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """params (n,) and grads (n,) of one dtype."""
        self.direction(grads, state, hyper)
        self.add_decay(params, grads, hyper)
        grads *= hyper["lr"]
        params -= grads
