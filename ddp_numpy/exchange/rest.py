"""The layers whose gradients can't be cut along parameters, in a network with others: theirs are summed."""

from collections.abc import Sequence

import numpy as np

from ddp_numpy.data import share
from ddp_numpy.exchange.gradients import GradientExchange
from ddp_numpy.exchange.protocol import Piece
from ddp_numpy.nn import Array, Layer, Sequential


class Rest:
    """Some layers of a model, and the exchange that sums their gradients; it has been prepared for them."""

    def __init__(self, model: Sequential, layers: Sequence[Layer], exchange: GradientExchange) -> None:
        self._exchange, all_places = exchange, model.layer_slices()
        self._places = [all_places[layer] for layer in layers]
        self.summed_bytes = exchange.summed_bytes

    def runs(self, rank: int, ranks: int) -> list[slice]:
        """What a rank, of so many on a node, updates of these layers' parameters."""
        parts = [(place, share(place.stop - place.start, rank, ranks)) for place in self._places]
        return [slice(place.start + part.start, place.start + part.stop) for place, part in parts]

    def add(self, piece: Piece) -> None:
        """Take what the model's last backward, of this piece, has left."""
        self._exchange.add(piece)

    def sum(self, grads: Array) -> None:
        """Write the sums over all ranks to where these layers lie in the flat vector, grads (P,). Collective."""
        self._exchange.sum()
        start = 0
        for place in self._places:
            stop = start + place.stop - place.start
            np.copyto(grads[place], self._exchange.grads[start:stop])
            start = stop

    def not_finite(self, loss: float) -> str | None:
        """What is wrong if a gradient is not a finite number, else None."""
        return self._exchange.not_finite(loss)

    def squared_norm(self) -> float:
        """Of these layers' gradients."""
        exact = self._exchange.grads.astype(np.float64)
        return float(np.dot(exact, exact))
