"""The loss, as sums over rows that ranks can add."""

import numpy as np
import numpy.typing as npt

from ddp_numpy.nn.layers import Array, RowBuffer


class SoftmaxCrossEntropy:
    """Minus the log of the softmax probability of the right class, and its gradient at the logits.

    Takes and gives sums, never means: a mean over a rank's rows is a mean over the batch only by luck.
    """

    SUMS = 3
    """How many numbers `forward` adds up: the loss, the rows classified correctly, the rows."""

    def __init__(self, classes: int, dtype: npt.DTypeLike) -> None:
        self._probabilities = RowBuffer((classes,), dtype)

    def forward(self, logits: Array, y: Array, sums: Array) -> None:
        """logits (B, classes), y (B,) in 0..classes-1 -> sums (3,): loss in nats, correct, and B."""
        rows = np.arange(len(y))
        P = self._probabilities.rows(len(y))
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=P)  # exp() can't overflow at or below 0
        shifted = P[rows, y]
        totals = np.exp(P, out=P).sum(axis=1)
        P /= totals[:, np.newaxis]
        sums[0] = np.sum(np.log(totals) - shifted, dtype=np.float64)
        sums[1] = np.count_nonzero(logits.argmax(axis=1) == y)
        sums[2] = len(y)
        self._y = y

    def backward(self, global_rows: int) -> Array:
        """The gradient (B, classes) at the last forward's logits of the mean loss over global_rows rows.

        These B are the caller's share of the global rows. To be called once after a forward.
        """
        dlogits = self._probabilities.rows(len(self._y))
        dlogits[np.arange(len(self._y)), self._y] -= 1
        dlogits /= global_rows
        return dlogits
