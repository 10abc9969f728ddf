"""The loss, as sums over rows that ranks can add."""

import numpy as np
import numpy.typing as npt

from ddp_numpy.buffers import RowBuffer
from ddp_numpy.nn.layers import Array


class SoftmaxCrossEntropy:
    """Minus the log of the softmax probability of the right class, and its gradient at the logits.

    Takes and gives sums, never means: a mean over a rank's rows is a mean over the batch only by luck.
    """

    SUMS = 3
    """How many numbers `forward` adds up: the loss, the rows classified correctly, the rows."""

    def __init__(self, classes: int, dtype: npt.DTypeLike) -> None:
        self._probabilities = RowBuffer((classes,), dtype)
        self._totals = RowBuffer((1,), dtype)
        self._guesses = RowBuffer((), np.intp)
        self._numbers = np.arange(0)

    def forward(self, logits: Array, y: Array, sums: Array) -> None:
        """logits (B, classes), y (B,) in 0..classes-1 -> sums (3,): loss in nats, correct, and B."""
        rows = self._rows(len(y))
        P, totals = self._probabilities.rows(len(y)), self._totals.rows(len(y))
        guesses = logits.argmax(axis=1, out=self._guesses.rows(len(y)))
        # exp() can't overflow at or below 0. The largest logits are quicker picked than searched for again.
        np.subtract(logits, logits[rows, guesses][:, np.newaxis], out=P)
        shifted = P[rows, y]
        np.exp(P, out=P)
        np.sum(P, axis=1, keepdims=True, out=totals)
        P /= totals
        sums[0] = np.sum(np.log(totals[:, 0]) - shifted, dtype=np.float64)
        sums[1] = np.count_nonzero(guesses == y)
        sums[2] = len(y)
        self._y = y

    def backward(self, global_rows: int) -> Array:
        """The gradient (B, classes) at the last forward's logits of the mean loss over global_rows rows.

        These B are the caller's share of the global rows. To be called once after a forward.
        """
        dlogits = self._probabilities.rows(len(self._y))
        dlogits[self._rows(len(self._y)), self._y] -= 1
        dlogits /= global_rows
        return dlogits

    def _rows(self, n: int) -> Array:
        if n > len(self._numbers):
            self._numbers = np.arange(n)
        return self._numbers[:n]
