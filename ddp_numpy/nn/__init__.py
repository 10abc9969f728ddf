"""The network: layers, loss and model in pure NumPy. Knows of no rank, file or terminal."""

from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Cut, Dense, Layer, ReLU
from ddp_numpy.nn.loss import SoftmaxCrossEntropy
from ddp_numpy.nn.model import Sequential

LAYERS: dict[str, type[Layer]] = {layer.__name__: layer for layer in (Dense, ReLU)}
"""The layers that a model file may name."""

__all__ = [
    "EVALUATION",
    "LAYERS",
    "Array",
    "Context",
    "Cut",
    "Dense",
    "Layer",
    "ReLU",
    "Sequential",
    "SoftmaxCrossEntropy",
]
