"""The table of all layers, each as it may stand in a model: tests go through all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ddp_numpy import (
    GELU,
    Augment,
    AvgPool2D,
    BatchNorm,
    Context,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LayerNorm,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    Reshape,
    Residual,
    Sequential,
    Sigmoid,
    SiLU,
    Tanh,
)


@dataclass(frozen=True)
class Entry:
    """A layer, and what it is tested with."""

    make: Callable[[], Layer]
    shape: tuple[int, ...] = (5,)
    """Of its input rows."""
    torch: Callable[[Any, Layer], Any] | None = field(default=None, repr=False)
    """From the module torch, and the layer, to PyTorch's of the same name, for float64; images as PyTorch has them."""


ROW, IMAGE = (5,), (5, 4, 3)

LAYERS: dict[str, Entry] = {
    "Dense": Entry(lambda: Dense(3)),
    "ReLU": Entry(ReLU),
    "LeakyReLU": Entry(lambda: LeakyReLU(0.2)),
    "SiLU": Entry(SiLU),
    "GELU": Entry(GELU),
    "GELU, approximate": Entry(lambda: GELU(approximate=True)),
    "Tanh": Entry(Tanh),
    "Sigmoid": Entry(Sigmoid, IMAGE),
    "Conv2D": Entry(lambda: Conv2D(4), IMAGE),
    "Conv2D, strided": Entry(lambda: Conv2D(4, [3, 2], 2, "valid"), IMAGE),
    "Conv2D, dilated": Entry(lambda: Conv2D(2, 2, padding=1, dilation=[2, 1]), IMAGE),
    "Conv2D, depthwise": Entry(lambda: Conv2D(6, groups=3, init="glorot"), IMAGE),
    "Conv2D, 1x1": Entry(lambda: Conv2D(4, 1), IMAGE),
    "MaxPool2D": Entry(MaxPool2D, IMAGE),
    "MaxPool2D, overlapping": Entry(lambda: MaxPool2D(3, 2, "same"), IMAGE),
    "AvgPool2D": Entry(lambda: AvgPool2D(2, padding="same"), IMAGE),
    "GlobalAvgPool": Entry(GlobalAvgPool, IMAGE),
    "Augment, nothing": Entry(Augment, IMAGE),
    "Augment, shifted": Entry(lambda: Augment(shift=1.5), IMAGE),
    "Augment, turned": Entry(lambda: Augment(shift=0.5, rotation=30, scale=0.2, shear=0.3), IMAGE),
    "Augment, elastic": Entry(lambda: Augment(elastic=1, smoothness=1.5), IMAGE),
    "Augment, erased": Entry(lambda: Augment(erase=0.5), IMAGE),
    "Augment, everything": Entry(lambda: Augment(1, 20, 0.1, 0.1, 0.5, 2, 0.4), (6, 7, 1)),
    "Dropout": Entry(lambda: Dropout(0.4)),
    "Dropout, images": Entry(lambda: Dropout(0.2), IMAGE),
    "Reshape": Entry(lambda: Reshape((3, 1, 20)), IMAGE),
    "Flatten": Entry(Flatten, IMAGE),
    "BatchNorm": Entry(lambda: BatchNorm(0.3, 1e-3), ROW, lambda torch, _: torch.nn.BatchNorm1d(5, 1e-3, 0.3)),
    "BatchNorm, images": Entry(BatchNorm, IMAGE, lambda torch, _: torch.nn.BatchNorm2d(3)),
    "LayerNorm": Entry(LayerNorm, ROW, lambda torch, _: torch.nn.LayerNorm(5)),
    "LayerNorm, images": Entry(LayerNorm, IMAGE),
    "Residual": Entry(lambda: Residual(Dense(4), ReLU(), Dense(5))),
    "Residual with a shortcut": Entry(lambda: Residual(Dense(4), BatchNorm(), ReLU(), shortcut=[Dense(4)])),
    "Residual within a Residual": Entry(
        lambda: Residual(Residual(LayerNorm(), ReLU(), Dropout(0.3)), BatchNorm()), IMAGE
    ),
}


def names(layer: Layer) -> set[str]:
    """Its class and those of the layers within it."""
    return {type(layer).__name__, *(type(inner).__name__ for chain in layer.chains for inner in chain.all_layers())}


def built(entry: Entry, dtype: type = np.float64) -> Sequential:
    """A model of this layer alone, with parameters that are all different."""
    model = Sequential(entry.make(), dtype=dtype)
    model.build(entry.shape)
    rng = np.random.default_rng(4)
    model.initialize(rng)
    model.params += 0.1 * rng.standard_normal(model.params.shape)
    model.attach_grads(np.full(model.params.size, np.nan, dtype))
    return model


def training(rows: int, first_row: int = 0, global_rows: int | None = None) -> Context:
    """What layers know of these rows when they are alone with them."""
    return Context(
        training=True, first_row=first_row, rows=rows, global_rows=rows if global_rows is None else global_rows
    )
