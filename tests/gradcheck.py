"""Checks a gradient along random directions: two evaluations each, however many parameters there are."""

from collections.abc import Callable

import numpy as np

_DIRECTIONS = 8
_STEP = 1e-6


def directional_error(value: Callable[[], float], x: np.ndarray, gradient: np.ndarray) -> float:
    """The largest relative difference between central differences of value() and the gradient's prediction.

    value reads x (float64), which is changed and put back. Directions are unit vectors, and the difference is
    relative to the gradient's length, so that no direction along which little changes counts for more.
    """
    rng = np.random.default_rng(1)
    start, worst = x.copy(), 0.0
    for _ in range(_DIRECTIONS):
        # Along the gradient with some noise: a wholly random direction in many dimensions is almost at a right
        # angle to any gradient, and would hide its errors.
        direction = gradient / np.linalg.norm(gradient) + 0.3 * rng.standard_normal(x.shape) / np.sqrt(x.size)
        direction /= np.linalg.norm(direction)
        x[...] = start + _STEP * direction
        above = value()
        x[...] = start - _STEP * direction
        below = value()
        x[...] = start
        slope = (above - below) / (2 * _STEP)
        worst = max(worst, abs(slope - np.vdot(gradient, direction)) / np.linalg.norm(gradient))
    return worst
