"""A separate stream of random numbers for each purpose. The streams are the same on every rank."""

from typing import Literal, get_args

import numpy as np

Purpose = Literal["split", "init", "order"]
# A purpose's position goes into its random numbers. A changed position would change every result that was published:
# add new purposes at the end, never reorder.
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A generator that depends on the seed, the purpose and the counters (for example the epoch), and on nothing else.

    NumPy pads short seeds with zeros, so `default_rng(7)` and `default_rng((7, 0))` are the same stream. A spawn key
    is kept separate from the seed, so two purposes never share a stream.
    """
    key = (_PURPOSES.index(purpose), *counters)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))
