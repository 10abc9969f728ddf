"""What every optimizer has: hyperparameters, state, groups of parameters, and an update of any run of the vectors."""

import abc
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Group:
    """Parameters for which some hyperparameters have values of their own."""

    chooses: Callable[[str], bool]
    """By a parameter's name, like "b of layer 1 (Dense)": whether it belongs to the group."""
    hyper: Mapping[str, float]
    """The hyperparameters that differ, and their values."""


def is_no_weight(name: str) -> bool:
    """Whether a parameter of this name is a bias, or one of a normalization: weights alone are named W."""
    return not name.startswith("W ")


class Optimizer(abc.ABC):
    """Updates parameters in place, as their gradients say.

    A subclass keeps everything that it remembers from one update to the next in `state`: then checkpoints hold it
    whole, and the ranks compare it with one another.
    """

    def __init__(self, hyper: Mapping[str, float], groups: Sequence[Group] = ()) -> None:
        """hyper: the hyperparameters by name, "lr" among them. groups: the first that chooses a parameter counts.

        Raises InputError for a group with a hyperparameter that the optimizer does not have.
        """
        self.hyper, self.groups = dict(hyper), groups
        for name in {name for group in groups for name in group.hyper} - self.hyper.keys():
            raise InputError(f"a group sets {name!r}, but {type(self).__name__} has only {', '.join(self.hyper)}")
        self.steps = 0
        """How many updates were made. A resumed run counts on from where it was."""
        self.state: dict[str, Array] = {}
        """What is remembered, by name: vectors (P,), arrays of other shapes, and numbers as arrays without a dimension.

        `make_state` makes the arrays; an update writes into them, and never puts another array in their place.
        """
        self._parameters: list[tuple[slice, Mapping[str, float]]] = []
        self._decays: Array | None = None
        self._cuts = False

    by_parameter = False
    """Whether `update` is to get each parameter on its own, and whole, as an update by norms wants it.

    Then `elementwise` is False.
    """
    elementwise = True
    """Whether a number's update depends on that number alone, so that runs of the vectors may be updated by several
    ranks of a node. False, too, if `state` has other arrays than vectors (P,): then one rank updates all.
    """

    @property
    def lr(self) -> float:
        """The learning rate of parameters that are in no group with one of its own."""
        return self.hyper["lr"]

    def prepare(self, params: Array, parameters: Mapping[str, slice]) -> None:
        """Make the state for parameters (P,), of which each has a name and a slice."""
        self.steps = 0
        self.state = self.make_state(params)
        self.elementwise &= all(array.shape == params.shape for array in self.state.values()) and not self.by_parameter
        self._scratch = np.empty(0, params.dtype)
        self._parameters = [(part, self._own(name)) for name, part in parameters.items()]
        self._decays = None
        if not self.by_parameter and {name for _, own in self._parameters for name in own} == {"weight_decay"}:
            # Parameter by parameter takes 1.4 times as long (LOG: updates by other optimizers).
            self._decays = np.empty_like(params)
            for part, own in self._parameters:
                self._decays[part] = own.get("weight_decay", self.hyper["weight_decay"])
        self._cuts = self.by_parameter or (self._decays is None and bool(self.groups))

    def _own(self, name: str) -> Mapping[str, float]:
        """The hyperparameters that a parameter has of its own."""
        return next((group.hyper for group in self.groups if group.chooses(name)), {})

    def has(self, name: str) -> bool:
        """Whether any parameter has this hyperparameter with another value than 0."""
        return any([self.hyper[name], *(group.hyper.get(name, 0.0) for group in self.groups)])

    def scratch(self, n: int) -> Array:
        """Memory (n,) for an update to write what it needs for a moment."""
        if len(self._scratch) < n:
            self._scratch = np.empty(n, self._scratch.dtype)
        return self._scratch[:n]

    def norm(self, x: Array) -> float:
        """The Euclidean norm of x (n,): not by BLAS, which adds up in another order on another kind of CPU."""
        return math.sqrt(np.add.reduce(np.multiply(x, x, out=self.scratch(x.size))))

    def add_decay(self, params: Array, grads: Array, hyper: Mapping[str, float]) -> None:
        """Add weight_decay * params (n,) to grads (n,): the gradient of weight_decay / 2 * |params|^2."""
        decay = hyper["weight_decay"]
        if isinstance(decay, np.ndarray) or decay:
            grads += np.multiply(params, decay, out=self.scratch(params.size))

    def _decay(self, kind: str = "coupled") -> str:
        """Weight decay, for people to read; kind: whether it is part of the gradient, or a step of its own."""
        decay = self.hyper["weight_decay"]
        return f", {kind} weight decay {decay:g}" if decay else ""

    @abc.abstractmethod
    def make_state(self, params: Array) -> dict[str, Array]:
        """The state before the first update of parameters (P,)."""

    @abc.abstractmethod
    def update(self, params: Array, grads: Array, state: Mapping[str, Array], hyper: Mapping[str, float]) -> None:
        """Update a run of the parameters, (n,), in place; may use its gradients up.

        state: the vectors (P,) of `self.state`, cut to the same run. Arrays of other shapes are in `self.state` alone.
        hyper: if groups differ in weight_decay alone, it is a vector (n,), too: that of each number.
        """

    def step(self, params: Array, grads: Array, runs: Sequence[slice] | None = None) -> None:
        """One update of parameters (P,) with gradients (P,) of the same dtype, or of some runs of them.

        Uses the gradients up. A run is a slice with numbers for start and stop, and a step of 1.
        """
        self.steps += 1
        if not self._cuts and self._decays is None and (runs is None or runs == [slice(0, params.size)]):
            self.update(params, grads, self.state, self.hyper)
            return
        vectors = {name: array for name, array in self.state.items() if array.shape == params.shape}
        for part, own in self._parts([slice(0, params.size)] if runs is None else runs):
            views = {name: vector[part] for name, vector in vectors.items()}
            self.update(params[part], grads[part], views, {**self.hyper, **own})

    def _parts(self, runs: Sequence[slice]) -> Iterator[tuple[slice, Mapping[str, Any]]]:
        """The runs, or the parameters in them, with each piece's own hyperparameters."""
        if not self._cuts:
            yield from ((run, {} if self._decays is None else {"weight_decay": self._decays[run]}) for run in runs)
            return
        for run in runs:
            for part, own in self._parameters:
                start, stop = max(part.start, run.start), min(part.stop, run.stop)
                if start < stop:
                    yield slice(start, stop), own
