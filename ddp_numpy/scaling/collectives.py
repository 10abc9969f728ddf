"""When each of many hosts has the result of a collective, from when each comes to it: an array operation a round.

In a round both partners have what they exchange when the later one has come and the message has gone through.
"""

from typing import Literal, Protocol

import numpy as np

from ddp_numpy.nn import Array

Algorithm = Literal["doubling", "halving", "tree", "ring"]


class Cost(Protocol):
    """Of a message."""

    def __call__(self, distance: int, nbytes: float, *, all_send: bool = True) -> float:
        """Seconds, for so many bytes between hosts so far from each other. all_send: to as far, at the same time."""


def allreduce(moments: Array, nbytes: float, cost: Cost, algorithm: Algorithm) -> None:
    """From the moments at which hosts come to a sum of so many bytes (hosts,) to those at which they have it, in place.

    doubling: all of it to partners at distances 1, 2, 4 …; halving: a half at distance 1, a quarter at 2 …, and all the
    way back (Rabenseifner); tree: to host 0 and from there; ring: a piece for each host, around twice. Costs as in
    Thakur et al. 2005, doi:10.1177/1094342005051521.
    """
    hosts = len(moments)
    if hosts == 1:
        return
    distances = [2**power for power in range((hosts - 1).bit_length())]
    if algorithm == "ring":  # each piece passes the last host, and the longest way, which few take at the same time
        longest = max(cost(distance, nbytes / hosts, all_send=False) for distance in distances)
        moments[:] = moments.max() + 2 * (hosts - 1) * longest
        return
    if algorithm == "tree":
        _tree(moments, [(distance, cost(distance, nbytes, all_send=False)) for distance in distances])
        return
    # As many hosts as a power of two exchange. What is over hands its numbers to a neighbour, and gets the result.
    core = 2 ** (hosts.bit_length() - 1)
    over = hosts - core
    paired, handing = moments[: 2 * over].reshape(over, 2), cost(1, nbytes)
    paired[:, 0] = paired.max(axis=1) + handing
    inside = np.concatenate([paired[:, 0], moments[2 * over :]])
    far = [distance for distance in distances if distance < core]
    stretched = [distance * (2 if over else 1) for distance in far]  # in the numbers of all hosts
    if algorithm == "doubling":
        seconds = [cost(distance, nbytes) for distance in stretched]
    else:
        seconds = [cost(own, nbytes / (2 * distance)) for own, distance in zip(stretched, far, strict=True)]
    there = list(zip(far, seconds, strict=True))
    for distance, took in there + (there[::-1] if algorithm == "halving" else []):
        pairs = inside.reshape(-1, 2, distance)
        pairs[...] = np.maximum(pairs[:, :1], pairs[:, 1:]) + took
    paired[:, 0] = inside[:over]
    paired[:, 1] = paired[:, 0] + handing
    moments[2 * over :] = inside[over:]


def _tree(moments: Array, rounds: list[tuple[int, float]]) -> None:
    """Binomial: to host 0, and back from there. A host that sends is busy until its message is through."""
    for distance, took in rounds:
        from_ = moments[distance :: 2 * distance]
        into = moments[:: 2 * distance][: len(from_)]
        np.maximum(into, from_, out=into)
        into += took
    for distance, took in reversed(rounds):
        to = moments[distance :: 2 * distance]
        sender = moments[:: 2 * distance][: len(to)]
        sender += took
        to[:] = sender


def allgather(moments: Array, nbytes: float, cost: Cost) -> None:
    """The same for a gathering of as many bytes in all, to which each host brings its part (Bruck et al. 1997).

    What a host has goes to the one 1, then 2, 4 … before it, so it has twice as much after each round.
    """
    hosts, has = len(moments), 1
    while has < hosts:
        moments[:] = np.maximum(moments, np.roll(moments, -has)) + cost(has, nbytes * min(has, hosts - has) / hosts)
        has *= 2
