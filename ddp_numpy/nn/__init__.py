"""The network: layers, loss and model in pure NumPy. Knows of no rank, file or terminal."""

from ddp_numpy.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from ddp_numpy.nn.augment import Augment
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.conv import Conv2D
from ddp_numpy.nn.dropout import Dropout
from ddp_numpy.nn.layers import Cut, Dense, Layer
from ddp_numpy.nn.loss import Loss, SoftmaxCrossEntropy
from ddp_numpy.nn.model import Sequential
from ddp_numpy.nn.normalization import BatchNorm, LayerNorm
from ddp_numpy.nn.pool import AvgPool2D, GlobalAvgPool, MaxPool2D
from ddp_numpy.nn.regression import Huber, MeanSquaredError
from ddp_numpy.nn.structure import Flatten, Reshape, Residual

_LAYERS = (
    *(Augment, AvgPool2D, BatchNorm, Conv2D, Dense, Dropout, Flatten, GELU, GlobalAvgPool, LayerNorm, LeakyReLU),
    *(MaxPool2D, ReLU, Reshape, Residual, SiLU, Sigmoid, Tanh),
)
LAYERS: dict[str, type[Layer]] = {layer.__name__: layer for layer in _LAYERS}
"""The layers that a model file may name."""

__all__ = [
    "EVALUATION",
    "GELU",
    "LAYERS",
    "Array",
    "Augment",
    "AvgPool2D",
    "BatchNorm",
    "Context",
    "Conv2D",
    "Cut",
    "Dense",
    "Dropout",
    "Flatten",
    "GlobalAvgPool",
    "Huber",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Loss",
    "MaxPool2D",
    "MeanSquaredError",
    "ReLU",
    "Reshape",
    "Residual",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
]
