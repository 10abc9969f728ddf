"""The network: layers, loss and model in pure NumPy. Knows of no rank, file or terminal."""

from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.conv import Conv2D
from ddp_numpy.nn.layers import Cut, Dense, Layer, ReLU
from ddp_numpy.nn.loss import SoftmaxCrossEntropy
from ddp_numpy.nn.model import Sequential
from ddp_numpy.nn.pool import AvgPool2D, GlobalAvgPool, MaxPool2D

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer for layer in (Dense, ReLU, Conv2D, MaxPool2D, AvgPool2D, GlobalAvgPool)
}
"""The layers that a model file may name."""

__all__ = [
    "EVALUATION",
    "LAYERS",
    "Array",
    "AvgPool2D",
    "Context",
    "Conv2D",
    "Cut",
    "Dense",
    "GlobalAvgPool",
    "Layer",
    "MaxPool2D",
    "ReLU",
    "Sequential",
    "SoftmaxCrossEntropy",
]
