"""Networks by name. Each takes rows of images, flat as files have them, but `mlp`, which takes any rows.

Where a ReLU and a max-pool meet, the pool comes first. The largest of some numbers stays the largest behind a ReLU, so
both orders make the same network, and a quarter of the numbers go through the ReLU.
"""

import itertools
import math
from collections.abc import Callable, Sequence

from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.activations import ReLU, Tanh
from ddp_numpy.nn.conv import Conv2D
from ddp_numpy.nn.dropout import Dropout
from ddp_numpy.nn.layers import Dense, Layer, Shape
from ddp_numpy.nn.normalization import BatchNorm
from ddp_numpy.nn.pool import AvgPool2D, GlobalAvgPool, MaxPool2D
from ddp_numpy.nn.structure import Flatten, Reshape, Residual


def mlp(classes: int, hidden: tuple[int, ...] = (128, 64), dropout: float = 0.0) -> list[Layer]:
    """Dense layers with ReLU behind all but the last; dropout: the share of each hidden layer's numbers."""
    layers: list[Layer] = []
    for width in hidden:
        layers += [Dense(width), ReLU(), *_dropout(dropout)]
    return [*layers, Dense(classes)]


def cnn(classes: int, image: Shape, dropout: float = 0.0) -> list[Layer]:
    """Two stages of two 3x3 convolutions and a pool, then dense layers."""
    layers: list[Layer] = [Reshape(image)]
    for filters in (16, 32):
        layers += [Conv2D(filters), ReLU(), Conv2D(filters), MaxPool2D(), ReLU()]
    return [*layers, Flatten(), *_dropout(dropout), Dense(128), ReLU(), *_dropout(dropout), Dense(classes)]


def lenet5(classes: int, image: Shape, dropout: float = 0.0) -> list[Layer]:
    """LeNet-5 (LeCun et al., Proc. IEEE 86, 1998), with whole layers and softmax, as it is used today."""
    return [
        Reshape(image),
        Conv2D(6, 5, init="glorot"),
        Tanh(),
        AvgPool2D(),
        Conv2D(16, 5, padding="valid", init="glorot"),
        Tanh(),
        AvgPool2D(),
        Flatten(),
        Dense(120, init="glorot"),
        Tanh(),
        Dense(84, init="glorot"),
        Tanh(),
        *_dropout(dropout),
        Dense(classes, init="glorot"),
    ]


def resnet8(classes: int, image: Shape, dropout: float = 0.0) -> list[Layer]:
    """A convolution and three residual blocks of 16, 32 and 64 filters (He et al., CVPR 2016, arXiv:1512.03385)."""

    def block(filters: int, stride: int) -> Residual:
        first = [Conv2D(filters, stride=stride), BatchNorm(), ReLU(), Conv2D(filters), BatchNorm()]
        return Residual(*first, shortcut=[Conv2D(filters, 1, stride), BatchNorm()] if stride > 1 else [])

    layers: list[Layer] = [Reshape(image), Conv2D(16), BatchNorm(), ReLU()]
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        layers += [block(filters, stride), ReLU()]
    return [*layers, GlobalAvgPool(), *_dropout(dropout), Dense(classes)]


def tiny(classes: int, image: Shape, dropout: float = 0.0) -> list[Layer]:
    """A network of less than 8,000 parameters for grey images of 28 x 28: three stages of two narrow convolutions."""
    layers: list[Layer] = [Reshape(image)]
    for first, second in ((8, 10), (12, 12), (14, 14)):
        layers += [Conv2D(first), BatchNorm(), ReLU(), Conv2D(second), BatchNorm(), MaxPool2D(), ReLU()]
    return [*layers, Flatten(), *_dropout(dropout), Dense(classes)]


IMAGE_PRESETS: dict[str, Callable[[int, Shape, float], list[Layer]]] = {
    "cnn": cnn,
    "lenet5": lenet5,
    "resnet8": resnet8,
    "tiny": tiny,
}
"""From the number of classes, the shape of an image (H, W, C) and a rate of dropout to layers."""


def normalized(layers: Sequence[Layer]) -> list[Layer]:
    """The same layers, and batch normalization behind each convolution, or each hidden dense layer if there is none.

    Behind the dense layers of a network with convolutions it gains nothing (LOG: accuracies). Raises InputError if the
    network has it already.
    """
    if any(isinstance(layer, BatchNorm | Residual) for layer in layers):
        raise InputError("--batch-norm: the network has batch normalization already; leave the option out")
    *hidden, last = layers
    kind = Conv2D if any(isinstance(layer, Conv2D) for layer in layers) else Dense
    groups = ([layer, BatchNorm()] if isinstance(layer, kind) else [layer] for layer in hidden)
    return [*itertools.chain.from_iterable(groups), last]


def image_shape(numbers: int, otherwise: str = "take --model mlp") -> Shape:
    """The shape (H, W, C) of images of so many numbers a row: square ones, grey or with three numbers a pixel.

    Raises InputError if they can't be that. otherwise: what to do then, for people.
    """
    for channels in (1, 3):
        side = math.isqrt(numbers // channels)
        if side * side * channels == numbers:
            return side, side, channels
    raise InputError(
        f"rows of {numbers:,} numbers are no square images, grey or in three colours; {otherwise}, or write a "
        "--model-file that begins with Reshape((height, width, channels))"
    )


def _dropout(rate: float) -> list[Layer]:
    return [Dropout(rate)] if rate else []
