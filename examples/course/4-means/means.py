"""Exercise 4: the mean of the ranks' means is not the mean over the batch, unless all ranks have as many rows.

R ranks share a batch of n rows, and rank r has sizes[r] of them. In many programs each rank takes the mean over its
own rows, and the gradient is the mean of these R means: `mean_of_means`. A rank without rows counts as 0 there.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Average: TypeAlias = Callable[[Array, Array], Array]


def rank_means(values: Array, sizes: Sequence[int]) -> Array:
    """values (n, …), one for each row of the batch -> (R, …): the mean over each rank's rows, and 0 of no rows.

    Rank 0 has the first sizes[0] rows, rank 1 the next sizes[1] ones, and so on.
    """
    shards = np.split(values, np.cumsum(sizes)[:-1])
    return np.array([shard.sum(axis=0) / max(1, len(shard)) for shard in shards])


def mean_of_means(means: Array, sizes: Array) -> Array:
    """means (R, …) of the ranks, sizes (R,) -> (…). This is the wrong way: each rank counts alike."""
    return np.asarray(means.mean(axis=0))


def make_it_wrong(factor: int, ranks: int) -> tuple[Array, list[int]]:
    """Losses (n,) of a batch and its sizes (R,), with which the mean of means is `factor` times the mean of the losses.

    factor, ranks: 2 or more. You choose n. Each rank has at least one row, no loss is negative, and one is above 0.
    """
    raise NotImplementedError("exercise: write make_it_wrong in means.py")


def predicted_error(means: Array, sizes: Array) -> Array:
    """means (R, …) of the ranks, sizes (R,) -> (…): the mean of means, minus the mean over all rows of the batch.

    A formula for it, without the single rows: a weighted sum of the ranks' means.
    """
    raise NotImplementedError("exercise: write predicted_error in means.py")


def global_mean(means: Array, sizes: Array) -> Array:
    """means (R, …) of the ranks, sizes (R,) -> (…): the mean over all rows of the batch. This is the right way."""
    raise NotImplementedError("exercise: write global_mean in means.py")


def train(X: Array, y: Array, batches: Sequence[Sequence[int]], average: Average) -> Array:
    """A trainer's loop: X (N, D), y (N,) -> w (D,), which predicts y as X @ w.

    batches: the sizes (R,) of each batch, which together have N rows. average: makes one gradient of the ranks'.
    """
    w, start = np.zeros(X.shape[1]), 0
    for sizes in batches:
        batch = slice(start, start + sum(sizes))
        row_gradients = (X[batch] @ w - y[batch])[:, np.newaxis] * X[batch]  # (n, D)
        w -= 0.2 * average(rank_means(row_gradients, sizes), np.array(sizes))
        start = batch.stop
    return w
