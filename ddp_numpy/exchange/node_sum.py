"""Adds up over nodes what each has summed of its own rows: in an order that no number of nodes changes."""

import itertools
from collections.abc import Sequence

import numpy as np

from ddp_numpy.comm import Node, in_cache_lines
from ddp_numpy.data import share
from ddp_numpy.exchange.ordered_sum import OrderedSum
from ddp_numpy.nn import Array


class NodeSum:
    """Of one rank of each node, its partners: the sum of their vectors (n,), and of a few more numbers, the riders.

    Each node gets all partial sums of its share of the vector, adds them up in their order, and sends the total to all
    nodes: a reduce-scatter and an allgather, with as few bytes as an allreduce. In which order a library's own adds up
    depends on the number of nodes. Two nodes add up all of the vector each, with as many bytes in one message less.
    """

    def __init__(self, node: Node, vector: Array, spans: Sequence[Sequence[slice]], riders: Array) -> None:
        """vector (n,): where the total is written. spans: for each node the terms in each of its partial sums."""
        nodes = len(spans)
        self._node, self._spans, self._vector, self._riders = node, spans, vector, riders
        everything = slice(0, vector.size)
        self._shares = [everything if nodes == 2 else share(vector.size, index, nodes) for index in range(nodes)]
        own, times = self._shares[node.index], len(spans[node.index])
        self._sent = _Places([(part, times) for part in self._shares], node.index, vector, riders)
        self._received = _Places([(own, len(theirs)) for theirs in spans], node.index, vector, riders)
        self._sum, self._all_riders = OrderedSum(), np.zeros_like(riders)

    def run(self, sums: Sequence[Array]) -> None:
        """Replace vector and riders by their totals; sums: this node's partial sums. Collective, of the partners."""
        node, own = self._node, self._shares[self._node.index]
        for message, part in zip(self._sent.places, self._shares, strict=True):
            if message is not None:
                np.copyto(message[0], self._riders)
                for place, whole in zip(message[1], sums, strict=True):
                    np.copyto(place, whole[part])
        node.swap((self._sent.memory, self._sent.counts), (self._received.memory, self._received.counts))
        self._all_riders.fill(0)
        for message, spans in zip(self._received.places, self._spans, strict=True):
            riders, parts = message or (self._riders, [whole[own] for whole in sums])
            self._all_riders += riders
            for span, one in zip(spans, parts, strict=True):
                self._sum.add(span, one)
        self._riders[...] = self._all_riders
        self._sum.write_total(self._vector[own])
        if len(self._shares) > 2:
            node.gather_(self._vector.view(np.uint8), [self._vector[part].nbytes for part in self._shares])


class _Places:
    """Memory of messages, one for each node but one's own: the riders, and the node's share of some partial sums."""

    def __init__(self, shares: Sequence[tuple[slice, int]], own: int, vector: Array, riders: Array) -> None:
        """shares: of each node, and of how many sums."""
        head, sizes = in_cache_lines(riders.nbytes), [vector[part].nbytes for part, _ in shares]
        self.counts = [
            0 if index == own else head + in_cache_lines(size) * times
            for index, (size, (_, times)) in enumerate(zip(sizes, shares, strict=True))
        ]
        """Bytes of each message."""
        self.memory = np.zeros(sum(self.counts), np.uint8)
        self.places: list[tuple[Array, list[Array]] | None] = []
        """Of each message, where the riders lie, and each sum."""
        starts = itertools.accumulate(self.counts[:-1], initial=0)
        for index, (start, size, (_, times)) in enumerate(zip(starts, sizes, shares, strict=True)):
            firsts = [start + head + in_cache_lines(size) * number for number in range(times)]
            sums = [self.memory[first : first + size].view(vector.dtype) for first in firsts]
            message = self.memory[start : start + riders.nbytes].view(riders.dtype), sums
            self.places.append(None if index == own else message)
