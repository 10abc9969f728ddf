"""A solution of exercise 2. See there for what the functions are to do.

The model is a line through the data: row r is predicted as X[r] @ w, and its loss is (X[r] @ w - y[r])^2 / 2. The loss
of a batch is the mean over its rows.
"""

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]


def batches(rows: int, batch_size: int) -> list[slice]:
    """The rows 0..rows-1, cut into batches of batch_size rows. The last batch has the rows that are left, maybe fewer.

    Example: 10 rows in batches of 4 are 0:4, 4:8 and 8:10.
    """
    return [slice(start, min(start + batch_size, rows)) for start in range(0, rows, batch_size)]


def share(rows: int, rank: int, size: int) -> slice:
    """The rows of a batch of `rows` rows that this rank of `size` ranks takes: neighbouring ones, maybe none.

    Each rank takes floor(rows / size) or ceil(rows / size) rows. Rank 0 takes the first ones, rank 1 those behind them,
    and so on. Each row is taken once.
    """
    return slice(rows * rank // size, rows * (rank + 1) // size)


def partial_gradient(X: Array, y: Array, w: Array, global_rows: int) -> Array:
    """X (B, D), y (B,), w (D,) -> (D,): this rank's part of the gradient at w of the mean loss over global_rows rows.

    B is how many rows this rank has, and may be 0. The sum of the parts of all ranks is the gradient of the batch.
    """
    return np.asarray(X.T @ (X @ w - y) / global_rows)


def rank_gradient(X: Array, y: Array, w: Array, batch: slice, rank: int, size: int) -> Array:
    """X (N, D) and y (N,) of all rows, w (D,) -> (D,): the part of the gradient of a batch that this rank adds.

    batch: the rows of the batch. To be written with share and partial_gradient.
    """
    rows = batch.stop - batch.start
    mine = share(rows, rank, size)
    X, y = X[batch][mine], y[batch][mine]
    return partial_gradient(X, y, w, rows)


def data() -> tuple[Array, Array]:
    """Ten rows to learn from: X (10, 3), y (10,). They are the same on every rank."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(10, 3))
    return X, X @ np.array([1.0, -2.0, 0.5])
