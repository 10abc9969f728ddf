"""Non-negative least squares, and the laws of scaling that a prediction has to be better than."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ddp_numpy.nn import Array

Law = Callable[[int], float]
"""From the number of ranks to the seconds of a step."""


def non_negative(features: Array, values: Array) -> Array:
    """Coefficients (k,), none below 0, with which features (n, k) come closest to values (n,), by relative error.

    Of few features each choice of them is tried: those with the least squares among which none is below 0.
    """
    A, best, least = features / values[:, None], np.zeros(features.shape[1]), math.inf
    for count in range(1, features.shape[1] + 1):
        for chosen in map(list, itertools.combinations(range(features.shape[1]), count)):
            found = np.linalg.lstsq(A[:, chosen], np.ones(len(A)), rcond=None)[0]
            error = float(np.square(A[:, chosen] @ found - 1).sum())
            if found.min() >= 0 and error < least - 1e-12:
                best, least = np.zeros(features.shape[1]), error
                best[chosen] = found
    return best


def amdahl(seconds: Mapping[int, float]) -> Law:
    """A serial part, and one that is shared out (Amdahl 1967), fitted to the seconds of some numbers of ranks."""
    return _linear(seconds, lambda ranks: [1.0, 1 / ranks])


def universal_scalability(seconds: Mapping[int, float]) -> Law:
    """Amdahl's, and a part that grows with the ranks, as all talk to all (Gunther 1993)."""
    return _linear(seconds, lambda ranks: [1.0, 1 / ranks, float(ranks - 1)])


def normal_form(seconds: Mapping[int, float]) -> Law:
    """c + d N^i log2(N)^j with the i and j that fit best (Calotoiu et al., SC'13, doi:10.1145/2503210.2503277)."""
    exponents = itertools.product((-1, -3 / 4, -2 / 3, -1 / 2, -1 / 3, -1 / 4, 0, 1 / 4, 1 / 2, 1, 3 / 2, 2), (0, 1, 2))
    laws = [
        _linear(seconds, lambda ranks, i=i, j=j: [1.0, ranks**i * math.log2(ranks) ** j])  # type: ignore[misc]
        for i, j in exponents
        if (i, j) != (0, 0)
    ]
    return min(laws, key=lambda law: sum((law(ranks) / value - 1) ** 2 for ranks, value in seconds.items()))


def _linear(seconds: Mapping[int, float], terms: Callable[[int], Sequence[float]]) -> Law:
    features, values = np.array([terms(ranks) for ranks in seconds]), np.array(list(seconds.values()))
    found = non_negative(features, values)
    return lambda ranks: float(np.dot(terms(ranks), found))


LAWS = {"Amdahl": amdahl, "USL": universal_scalability, "normal form": normal_form}
