"""The loss, row by row: what ranks add up are sums over rows."""

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.nn.context import Array


class SoftmaxCrossEntropy:
    """Minus the log of the softmax probability of the right class, and its gradient at the logits.

    Gives rows and sums, never means: a mean over a rank's rows is a mean over the batch only by luck.
    """

    def __init__(self, classes: int, dtype: npt.DTypeLike) -> None:
        self._classes = classes
        self._probabilities = RowBuffer((classes,), dtype)
        self._totals = RowBuffer((classes,), dtype)
        self._ones = np.ones((classes, classes), dtype)
        self._guesses = RowBuffer((), np.intp)
        self._firsts = np.arange(0)

    def forward(self, logits: Array, y: Array, rows: int | None = None) -> tuple[Array, Array]:
        """logits (B, classes), y (B,) in 0..classes-1 -> each row's loss (rows,) in nats, and if it is right (rows,).

        logits may come in shards, (shards, B / shards, classes). rows: how many of the B count, from the first on; all
        by default.
        """
        self._shape, self._rows = logits.shape, len(y) if rows is None else rows
        logits = logits.reshape(len(y), self._classes)
        P, totals = self._probabilities.rows(len(y)), self._totals.rows(len(y))
        firsts = self._row_firsts(len(y))
        self._right = firsts + y
        guesses = logits.argmax(axis=1, out=self._guesses.rows(len(y)))
        # exp() can't overflow at or below 0. The largest logits are quicker picked than searched for again.
        np.copyto(P, logits.take(firsts + guesses)[:, np.newaxis])
        np.subtract(logits, P, out=P)
        shifted = P.take(self._right)
        np.exp(P, out=P)
        # Each row's sum, once a class: quicker than np.sum and a broadcast.
        np.matmul(P.reshape(self._shape), self._ones, out=totals.reshape(self._shape))
        P /= totals
        losses: Array = np.log(totals[:, 0]) - shifted
        return losses[: self._rows], (guesses == y)[: self._rows]

    def backward(self, global_rows: int) -> Array:
        """The gradient, of the logits' shape, at the last forward's logits of the mean loss over global_rows rows.

        Those of the B that count are the caller's share of the global rows. To be called once after a forward.
        """
        dlogits = self._probabilities.rows(len(self._right))
        dlogits.reshape(-1)[self._right] -= 1
        dlogits /= global_rows
        dlogits[self._rows :] = 0
        return dlogits.reshape(self._shape)

    def _row_firsts(self, n: int) -> Array:
        """Where n rows begin in a flat (n * classes,)."""
        if n > len(self._firsts):
            self._firsts = np.arange(n) * self._classes
        return self._firsts[:n]
