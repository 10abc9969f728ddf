"""One source of random numbers for each purpose, the same on every rank."""

from typing import Literal, get_args

import numpy as np

Purpose = Literal["split", "init", "order"]
# Positions are part of every result ever published: add at the end, never reorder.
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A generator that depends on the seed, the purpose and the counters (an epoch, say), and on nothing else.

    NumPy pads short seeds with zeros, so `default_rng(7)` and `default_rng((7, 0))` are the same stream. A
    spawn key is set apart from the seed, and keeps two purposes from ever sharing one.
    """
    key = (_PURPOSES.index(purpose), *counters)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
