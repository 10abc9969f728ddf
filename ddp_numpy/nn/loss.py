"""The loss of each row. The ranks add up sums over rows."""

import math
import sys
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ddp_numpy.base import schema
from ddp_numpy.base.buffers import RowBuffer
from ddp_numpy.base.errors import InputError
from ddp_numpy.nn.context import Array


class Loss(Protocol):
    """How wrong a model's outputs are: a number for each row, and the gradient of the mean over the global batch.

    It returns values of rows, never means: ranks may have different numbers of rows, and then the mean of their means
    is not the mean over the batch. Example: losses 1, 2, 3 on two ranks as (1, 2) and (3). The mean of the means is
    (1.5 + 3) / 2 = 2.25, the mean over the batch is 2.

    Its constructor takes how many numbers a row of outputs has, and the dtype. The arrays that it returns may be its
    own, and keep their values until its next call.
    """

    gradients: RowBuffer
    """Where backward writes what it returns. A caller may lend it other memory."""
    # unit: float. A loss may have it: see SoftmaxCrossEntropy.

    def forward(self, outputs: Array, y: Array, rows: int | None = None, /) -> tuple[Array, Array]:
        """outputs (B, O), y: the B rows' targets -> losses (rows,), and scores (rows,).

        A score is whether the row is classified right, a boolean; or of predictions that are numbers its squared error.

        outputs may come in shards, (shards, B / shards, O). rows: only this many of the B rows count, from the first
        on; by default all. No loss is below 0.
        """
        ...

    def backward(self, global_rows: int) -> Array:
        """The gradient of the mean loss over global_rows rows at the last forward's outputs, in their shape.

        The rows that count are the caller's share of the global rows. Rows that do not count get 0. To be called once
        after each forward.
        """
        ...


class SoftmaxCrossEntropy:
    """Minus the log of the softmax probability of the right class, and its gradient at the logits.

    smoothing s: the target is not all on the right class. It is 1 - s there, and s is spread evenly over all classes
    (Szegedy et al., CVPR 2016, arXiv:1512.00567). Example: s = 0.1 and 4 classes make 0.925 of the right one, and 0.025
    of each other. The loss is then the sum over all classes of -target * log(probability).

    weights (classes,): what the loss of a row of each class is multiplied by. The mean over a batch is still the sum
    over its rows, divided by their number, and not by the sum of their weights.
    """

    def __init__(
        self, classes: int, dtype: npt.DTypeLike, smoothing: float = 0.0, weights: Sequence[float] | None = None
    ) -> None:
        """Raises InputError unless smoothing is a number from 0 to 1, and weights are above 0, one a class."""
        schema.check(smoothing, schema.Real(0, 1), "SoftmaxCrossEntropy: smoothing")
        if weights is not None:
            schema.check(list(weights), [schema.Real(sys.float_info.min, 1e30)], "SoftmaxCrossEntropy: weights")
            if len(weights) != classes:
                raise InputError(f"SoftmaxCrossEntropy: {len(weights)} weights of {classes} classes")
        self._classes, self._smoothing = classes, float(smoothing)
        self._weights = None if weights is None else np.array(weights, dtype)
        self.unit = 1.0 if weights is None else 2.0 ** max(0, math.ceil(math.log2(max(weights))))
        """What losses are counted in, so that those of large weights add up exactly, too: a power of two."""
        self.gradients = RowBuffer((classes,), dtype)
        """Where backward writes what it returns. A caller may lend it other memory."""
        self._probabilities = RowBuffer((classes,), dtype)
        self._totals = RowBuffer((classes,), dtype)
        self._ones = np.ones((classes, classes), dtype)
        self._guesses = RowBuffer((), np.intp)
        self._firsts = np.arange(0)

    def __str__(self) -> str:
        words = [f"label smoothing {self._smoothing:g}"] if self._smoothing else []
        if self._weights is not None:
            words.append(f"class weights {self._weights.min():.3g} to {self._weights.max():.3g}")
        return ", ".join(words)

    def forward(self, logits: Array, y: Array, rows: int | None = None) -> tuple[Array, Array]:
        """logits (B, classes), y (B,) in 0..classes-1 -> losses (rows,) in nats, and which guesses are right (rows,).

        logits may come in shards, (shards, B / shards, classes). rows: only this many of the B rows count, from the
        first on; by default all.
        """
        self._shape, self._rows = logits.shape, len(y) if rows is None else rows
        logits = logits.reshape(len(y), self._classes)
        P, totals = self._probabilities.rows(len(y)), self._totals.rows(len(y))
        firsts = self._row_firsts(len(y))
        self._right = firsts + y
        guesses = logits.argmax(axis=1, out=self._guesses.rows(len(y)))
        # Each row's largest logit is subtracted: exp() can't overflow at or below 0, and the quotient stays the same.
        # argmax has found where the largest logits are, so picking them is faster than another search with max().
        np.copyto(P, logits.take(firsts + guesses)[:, np.newaxis])
        np.subtract(logits, P, out=P)
        shifted = P.take(self._right)
        if self._smoothing:  # the mean over the target, in place of the right class alone
            np.matmul(P.reshape(self._shape), self._ones, out=totals.reshape(self._shape))
            shifted *= 1 - self._smoothing
            shifted += totals[:, 0] * (self._smoothing / self._classes)
        np.exp(P, out=P)
        # The product with a matrix of ones: each row's sum, repeated once per class. This is faster than np.sum and a
        # broadcast. (1, 2) @ [[1, 1], [1, 1]] = (3, 3).
        np.matmul(P.reshape(self._shape), self._ones, out=totals.reshape(self._shape))
        P /= totals
        losses: Array = np.log(totals[:, 0]) - shifted
        if self._weights is not None:
            self._row_weights = self._weights[y]
            losses *= self._row_weights
        return losses[: self._rows], (guesses == y)[: self._rows]

    def backward(self, global_rows: int) -> Array:
        """The gradient of the mean loss over global_rows rows at the last forward's logits, in the logits' shape.

        With p the softmax of a row, its loss is -log p[y], so d loss / d logits = p - onehot(y); with smoothing,
        p - target; all times the weight of its class. The mean divides this by global_rows. Rows that do not count get
        0. The rows that count are the caller's share of the global rows. To be called once after each forward, as it
        overwrites the probabilities.
        """
        P, dlogits = self._probabilities.rows(len(self._right)), self.gradients.rows(*self._shape[:-1])
        if self._smoothing:
            P -= self._smoothing / self._classes
        P.reshape(-1)[self._right] -= 1 - self._smoothing
        if self._weights is not None:
            P *= self._row_weights[:, np.newaxis]
        np.divide(P.reshape(self._shape), global_rows, out=dlogits)
        if self._rows < len(P):
            dlogits.reshape(P.shape)[self._rows :] = 0
        return dlogits

    def _row_firsts(self, n: int) -> Array:
        """The index at which each of n rows begins in a flat array (n * classes,): 0, classes, 2 * classes …"""
        if n > len(self._firsts):
            self._firsts = np.arange(n) * self._classes
        return self._firsts[:n]
