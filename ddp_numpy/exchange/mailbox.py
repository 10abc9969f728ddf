"""Brings what each rank of a node has updated to the node's other ranks."""

from collections.abc import Sequence

import numpy as np

from ddp_numpy.comm import Node
from ddp_numpy.nn import Array


class Mailbox:
    """A vector (P,) that each rank of a node has one of, and of which each rank updates its own runs.

    In the mailbox, memory that all of them see, the runs lie one behind the other in the order of the ranks, beginning
    with another rank each time. So a place there is written by a rank that has just read it. If one rank wrote a place
    again and again, and others read it, each writing would first have to tell the readers' caches, line by line, that
    their copies are old: five times as slow between cores that share no cache, see benchmarks/LOG.md.
    """

    def __init__(self, node: Node, memory: Array, vector: Array, runs: Sequence[Sequence[slice]]) -> None:
        """memory (P,): the node's; vector: this rank's; runs: of each rank."""
        self._node, self._count = node, 0
        self._layouts = [_layout(memory, vector, runs, first) for first in range(len(runs))]

    def exchange(self) -> None:
        """Replace the other ranks' runs of the vector by theirs. Collective."""
        if self._node.size == 1:
            return
        layout = self._layouts[self._count % len(self._layouts)]
        self._count += 1
        for own, place in layout[self._node.rank]:
            np.copyto(place, own)
        self._node.wait()
        for rank, moves in enumerate(layout):
            if rank != self._node.rank:
                for own, place in moves:
                    np.copyto(own, place)


def _layout(
    memory: Array, vector: Array, runs: Sequence[Sequence[slice]], first: int
) -> list[list[tuple[Array, Array]]]:
    """For each rank the parts of the vector that are its runs, and where they go, if this rank's lie first."""
    layout: list[list[tuple[Array, Array]]] = [[] for _ in runs]
    start = 0
    for number in range(len(runs)):
        rank = (first + number) % len(runs)
        for run in runs[rank]:
            stop = start + run.stop - run.start
            layout[rank].append((vector[run], memory[start:stop]))
            start = stop
    return layout
