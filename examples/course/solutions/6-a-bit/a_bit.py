"""A solution of exercise 6. See there for what the functions are to do.

FAULT=bit (the default) flips a bit of one weight, once. FAULT=order adds up the rows of a gradient in another order, in
each step. A job of one rank has no rank 1, so nothing happens there: that is what verify compares the other jobs with.
"""

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ddp_numpy import SGD, Dense, Layer, ReLU, world

Array: TypeAlias = npt.NDArray[Any]
Step: TypeAlias = Callable[..., None]
WriteUnits: TypeAlias = Callable[..., None]

UPDATE = 188
"""The last update of epoch 2: the 6,000 bundled digits in batches of 64 are 94 updates an epoch."""
ELEMENT = 20_000
"""Which of the 25,450 parameters. On two ranks, rank 1 updates the second half of them."""
BIT = 0


def flip_bit(x: Array, element: int, bit: int) -> None:
    """Flip one bit of x[element], in place. x (n,) is float32.

    bit: 0 is the lowest bit of the fraction, and 31 is the sign. Example: x = [1.0], bit 0 makes it 1.0000001, and bit
    31 makes it -1.0.
    """
    x.view(np.uint32)[element] ^= np.uint32(1 << bit)


def flipping(step: Step, update: int, element: int, bit: int) -> Step:
    """A function to take the place of an optimizer's step, which does the same, and once flips a bit.

    step(optimizer, params, grads, runs) updates the runs of params (P,) that belong to this rank. After the call with
    the number `update` (the first call has the number 1), flip the bit of params[element], if the element is in one of
    the runs.
    """
    calls = 0

    def step_and_flip(optimizer: SGD, params: Array, grads: Array, runs: Sequence[slice]) -> None:
        nonlocal calls
        step(optimizer, params, grads, runs)
        calls += 1
        if calls == update and any(run.start <= element < run.stop for run in runs):
            flip_bit(params, element, bit)

    return step_and_flip


def reversed_sum(write_units: WriteUnits) -> WriteUnits:
    """A function to take the place of a layer's write_units, which adds up the rows in the opposite order.

    write_units(units, X, dY, gradient) fills gradient with X^T dY, a sum over the rows of X (B, I) and dY (B, O).
    """

    def write_reversed(units: slice, X: Array, dY: Array, gradient: Array) -> None:
        write_units(units, X[::-1], dY[::-1], gradient)

    return write_reversed


def build(input_shape: tuple[int, ...], classes: int) -> list[Layer]:
    """The layers of the network, and on rank 1 the fault."""
    first = Dense(32)
    if world().rank == 1:
        if os.environ.get("FAULT", "bit") == "order":
            first.write_units = reversed_sum(first.write_units)  # type: ignore[method-assign]
        else:
            SGD.step = flipping(SGD.step, UPDATE, ELEMENT, BIT)  # type: ignore[method-assign]
    return [first, ReLU(), Dense(classes)]
