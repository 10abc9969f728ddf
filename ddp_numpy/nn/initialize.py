"""First values of weights, by name."""

import math
from collections.abc import Callable

import numpy as np

from ddp_numpy.nn.context import Array

INITIALIZERS: dict[str, Callable[[np.random.Generator, tuple[int, ...], int, int], Array]] = {
    "he": lambda rng, shape, inputs, outputs: rng.normal(0.0, math.sqrt(2 / inputs), shape),
    "glorot": lambda rng, shape, inputs, outputs: rng.uniform(-1.0, 1.0, shape) * math.sqrt(6 / (inputs + outputs)),
}
"""By name: from a generator, a shape, how many inputs an output has and outputs an input has, to weights, float64.

he: normal, for ReLU (He et al. 2015, arXiv:1502.01852). glorot: uniform, for tanh and sigmoid (Glorot and Bengio,
AISTATS 2010). Drawn in float64 and rounded by the layer, so that float32 and float64 start at the same point.
"""
DEFAULT = "he"


def config(init: str) -> dict[str, str]:
    """What a layer's config says of it: nothing of the default, which earlier versions did not name."""
    return {} if init == DEFAULT else {"init": init}
