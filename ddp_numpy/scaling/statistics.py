"""Medians and their intervals, which suppose nothing of how times are distributed.

Times of computers are skewed and have outliers, so means and normal intervals mislead (Hoefler and Belli, Scientific
benchmarking of parallel computing systems, SC'15, doi:10.1145/2807591.2807644).
"""

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

_CONFIDENCE = 0.95


class Median(NamedTuple):
    """The median of some values, and an interval, between two of them, for the median of all possible values."""

    value: float
    low: float
    high: float
    coverage: float
    """How probable it is, at least, that the interval has that median in it."""


def median(values: Sequence[float]) -> Median:
    """The median of independent values, at least one, and the narrowest symmetric interval that is sure to 95 %.

    The median of all possible values is below each value with probability 1/2. So it is below the k + 1 smallest of n
    values, or above the k + 1 largest, with the probability that of n coins at most k show heads. With few values even
    the interval from the smallest to the largest is not sure enough; it is then returned with its own coverage: 15/16
    of five values.
    """
    ordered, count = sorted(values), len(values)
    left_out, ways, outside = 0, 1, 1  # of the 2^count throws: with so many heads, and with as many at most
    while True:
        ways = ways * (count - left_out) // (left_out + 1)
        if 1 - 2 * (outside + ways) / 2**count < _CONFIDENCE:
            break
        left_out, outside = left_out + 1, outside + ways
    coverage = max(0.0, 1 - 2 * outside / 2**count)
    return Median(statistics.median(ordered), ordered[left_out], ordered[count - 1 - left_out], coverage)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed. values: at least one."""
    return sorted(values)[max(math.ceil(share * len(values)) - 1, 0)]
