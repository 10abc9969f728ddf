"""The network: layers, loss and model in pure NumPy. Knows of no rank, file or terminal."""

from ddp_numpy.nn.activations import GELU, LeakyReLU, ReLU, Sigmoid, SiLU, Tanh
from ddp_numpy.nn.context import EVALUATION, Array, Context
from ddp_numpy.nn.layers import Cut, Dense, Layer
from ddp_numpy.nn.loss import Loss, SoftmaxCrossEntropy
from ddp_numpy.nn.model import Sequential
from ddp_numpy.nn.regression import Huber, MeanSquaredError

LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer for layer in (Dense, ReLU, LeakyReLU, SiLU, GELU, Tanh, Sigmoid)
}
"""The layers that a model file may name."""

__all__ = [
    "EVALUATION",
    "GELU",
    "LAYERS",
    "Array",
    "Context",
    "Cut",
    "Dense",
    "Huber",
    "Layer",
    "LeakyReLU",
    "Loss",
    "MeanSquaredError",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
]
