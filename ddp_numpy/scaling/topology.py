"""The shape of a network: how many links lie between two hosts, and what share of its own link a host gets.

In each round of a collective all hosts send at the same time, each to one whose number differs by a power of two. So it
is enough to know both for such a distance. Hosts are numbered along the network: those of a switch, then the next.
"""

import math
from typing import NamedTuple, Protocol

from ddp_numpy.base.errors import InputError


class Path(NamedTuple):
    """Between two hosts."""

    links: int
    """That a message goes through, those of the two hosts included."""
    share: float
    """Of a host's rate that it gets if all hosts send as far."""


class Topology(Protocol):
    """A network."""

    def path(self, distance: int) -> Path:
        """Between hosts whose numbers differ by so much, a power of two: the longest of them."""


class Switch:
    """All hosts on one switch, each as fast as if it were alone."""

    def path(self, distance: int) -> Path:
        """As in Topology."""
        return Path(2, 1.0)

    def __str__(self) -> str:
        return "one switch"


class FatTree:
    """Switches with the same number of ports, in as many levels as are needed (Al-Fares et al. 2008)."""

    def __init__(self, ports: int, oversubscription: float = 1.0) -> None:
        """oversubscription: of the lowest switches, the links to hosts over those up."""
        self._ports, self._up = ports, max(1, round(ports / (1 + oversubscription)))
        self._hosts = ports - self._up

    def path(self, distance: int) -> Path:
        """As in Topology."""
        if 2 * distance <= self._hosts:
            return Path(2, 1.0)
        above = math.ceil(round(math.log(2 * distance / self._hosts, self._ports // 2), 9))
        return Path(2 + 2 * above, min(1.0, self._up / self._hosts))

    def __str__(self) -> str:
        return f"a fat tree of switches with {self._ports} ports, {self._hosts} of them for hosts"


class Dragonfly:
    """Groups of routers; a link from each router to each of its group, and from each group to each other.

    Balanced (Kim et al. 2008, doi:10.1109/ISCA.2008.19): of 4 p - 1 ports of a router, p are for hosts, 2 p - 1 for the
    other routers of its group, and p for other groups. Where all hosts send to the same router or group, few links lead
    there, and a detour by others (Valiant's routing), over twice as many, may let more through: the faster counts.
    """

    def __init__(self, ports: int, hosts: int) -> None:
        """hosts: that are used. Raises InputError for more than there can be."""
        self._p = (ports + 1) // 4
        self._group = 2 * self._p**2
        global_links = self._group
        self._groups = -(-hosts // self._group)
        if self._groups > global_links + 1:
            raise InputError(
                f"--topology dragonfly:{ports}: has place for {self._group * (global_links + 1):,} hosts, not for "
                f"{hosts:,}; take routers with more ports"
            )
        self._to_each = global_links // max(1, self._groups - 1)

    def path(self, distance: int) -> Path:
        """As in Topology."""
        if 2 * distance <= self._p:
            return Path(2, 1.0)
        if 2 * distance <= self._group:
            return max(Path(3, 1 / self._p), Path(4, (2 * self._p - 2) / (2 * self._p)), key=lambda path: path.share)
        return max(Path(5, min(1.0, self._to_each / self._group)), Path(7, 0.5), key=lambda path: path.share)

    def __str__(self) -> str:
        return f"a dragonfly of {self._groups:,} groups of {self._group} hosts"
