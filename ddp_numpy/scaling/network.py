"""What the links between hosts cost, from sums of several sizes: latency, and seconds a byte, at any rate.

Bits are on the wire while hosts copy those that came before, so a byte takes as long as the slower of both: the wire,
at the rate of the links, or the hosts, whichever the links. On links that were measured it takes what it took there.
"""

import statistics
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ddp_numpy.scaling.fit import non_negative

_FRAMES = 1538 / 1448  # bytes on Ethernet for each byte of TCP, with frames of 1,500
_BY_WIRE = 1.25  # times the wire's own time: what takes no longer says nothing of the hosts


class Sum(NamedTuple):
    """A sum over hosts that was measured."""

    rounds: int
    """Of messages that go one behind the other."""
    through_a_link: float
    """Bytes, each way."""
    seconds: float
    rate: float | None
    """Bits a second of the links; None if that is not known."""


class Network:
    """Latency of a message, and the time that a byte takes."""

    def __init__(self, sums: Sequence[Sum]) -> None:
        self._by_rate: dict[float | None, float] = {}
        latencies = []
        for rate in dict.fromkeys(one.rate for one in sums):
            own = [one for one in sums if one.rate == rate]
            features = np.array([[one.rounds, one.through_a_link] for one in own], float)
            latency, a_byte = non_negative(features, np.array([max(one.seconds, 1e-9) for one in own]))
            latencies.append(float(latency))
            self._by_rate[rate] = float(a_byte)
        self.latency = statistics.median(latencies) if latencies else 0.0
        """Seconds, of a round."""
        by_hosts = [a_byte for rate, a_byte in self._by_rate.items() if rate is None or a_byte > _BY_WIRE * 8 / rate]
        self._hosts = min(by_hosts, default=0.0)
        self.hosts_are_known = bool(by_hosts)
        """Whether some links were so fast that the hosts were slower."""

    def seconds(self, rounds: int, through_a_link: float, rate: float | None) -> float:
        """Of so many rounds, and so many bytes each way, on links of a rate."""
        return self.latency * rounds + self.of_a_byte(rate) * through_a_link

    def of_a_byte(self, rate: float | None) -> float:
        """Seconds, on links of a rate; None: one that is not known."""
        if rate is None or rate in self._by_rate:
            return self._by_rate.get(rate, 0.0)
        return max(_FRAMES * 8 / rate, self._hosts)
