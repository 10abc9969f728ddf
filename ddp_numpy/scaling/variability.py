"""How the same work takes now more time, now less: differences between ranks that stay, and noise from step to step."""

from collections.abc import Sequence

import numpy as np

from ddp_numpy.nn import Array

LEVELS = np.append(1 - 0.5 ** np.arange(0, 12.25, 0.25), 1.0)
"""Of quantiles of noise: more of them the rarer a time is, as the slowest of many ranks is one of the rarest."""


class Variability:
    """Of a rank's useful seconds, as a product of two numbers, each 1 on average, which are drawn as they were seen.

    What was never seen is never drawn, so of many ranks the rarest times are too short rather than too long.
    """

    def __init__(self, of_ranks: Sequence[float], noise: Array) -> None:
        """of_ranks: the mean of each rank over that of all who did the same work. noise: quantiles at LEVELS."""
        self._of_ranks, self._noise = np.array(of_ranks), np.asarray(noise, float)

    def widened(self, times: float) -> "Variability":
        """The same ranks, with noise so many times as large."""
        return Variability(self._of_ranks.tolist(), 1 + (self._noise - 1) * times)

    def draw_ranks(self, draw: np.random.Generator, ranks: int) -> Array:
        """What stays, (ranks,)."""
        drawn: Array = self._of_ranks[draw.integers(len(self._of_ranks), size=ranks)]
        return drawn

    def draw_noise(self, draw: np.random.Generator, ranks: int) -> Array:
        """What a step adds, (ranks,)."""
        drawn: Array = np.interp(draw.random(ranks), LEVELS, self._noise)
        return drawn

    def expected_largest(self, ranks: int) -> float:
        """Of so many draws of a step."""
        middles = np.append(self._noise[0], (self._noise[1:] + self._noise[:-1]) / 2)[1:]
        values = np.outer(self._of_ranks, middles).ravel()
        shares = np.tile(np.diff(LEVELS), len(self._of_ranks)) / len(self._of_ranks)
        order = np.argsort(values)
        below = np.minimum(np.cumsum(shares[order]), 1) ** ranks
        return float(np.dot(values[order], np.diff(below, prepend=0.0)))
