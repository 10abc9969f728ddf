"""The table of all optimizers, each as it is used: tests go through all of them."""

from collections.abc import Callable

from ddp_numpy import optim
from ddp_numpy.optim import LAMB, LARS, SGD, Adam, AdamW, Group, Optimizer, RMSprop, is_no_weight

BIASES = (Group(is_no_weight, {"weight_decay": 0.0}),)
UNADAPTED = (Group(is_no_weight, {"weight_decay": 0.0, "adapt": 0.0}),)

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {
    "SGD": lambda: SGD(0.05),
    "SGD, momentum": lambda: SGD(0.05, 0.9, weight_decay=0.01),
    "SGD, Nesterov": lambda: SGD(0.05, 0.9, BIASES, nesterov=True, weight_decay=0.01),
    "Adam": lambda: Adam(0.01, 0.8, 0.99, 1e-7),
    "Adam, decay": lambda: Adam(0.01, weight_decay=0.02),
    "AdamW": lambda: AdamW(0.01, weight_decay=0.1, groups=BIASES),
    "RMSprop": lambda: RMSprop(0.01, 0.9),
    "RMSprop, momentum": lambda: RMSprop(0.01, 0.95, 0.7, weight_decay=0.02),
    "LARS": lambda: LARS(0.1, 0.9, 0.02),
    "LARS, decay": lambda: LARS(0.1, 0.8, weight_decay=0.01, groups=UNADAPTED),
    "LAMB": lambda: LAMB(0.01, weight_decay=0.1),
    "LAMB, biases": lambda: LAMB(0.01, 0.8, 0.99, weight_decay=0.1, groups=UNADAPTED),
}


def missing() -> set[str]:
    """The optimizers that the table lacks."""
    kinds = {kind for kind in vars(optim).values() if isinstance(kind, type) and issubclass(kind, Optimizer)}
    return {kind.__name__ for kind in kinds - {Optimizer, *(type(make()) for make in OPTIMIZERS.values())}}
