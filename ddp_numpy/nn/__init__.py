"""The network: layers, loss and model in pure NumPy. Knows of no rank, file or terminal."""

from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.dropout import Dropout
from ddp_numpy.nn.layers import Cut, Dense, Layer, ReLU
from ddp_numpy.nn.loss import SoftmaxCrossEntropy
from ddp_numpy.nn.model import Sequential
from ddp_numpy.nn.normalization import BatchNorm, LayerNorm
from ddp_numpy.nn.structure import Flatten, Reshape, Residual

_LAYERS = (BatchNorm, Dense, Dropout, Flatten, LayerNorm, ReLU, Reshape, Residual)
LAYERS: dict[str, type[Layer]] = {layer.__name__: layer for layer in _LAYERS}
"""The layers that a model file may name."""

__all__ = [
    "EVALUATION",
    "LAYERS",
    "Array",
    "BatchNorm",
    "Context",
    "Cut",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LayerNorm",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequential",
    "SoftmaxCrossEntropy",
]
