"""Which rows are in which batch, and which of them each rank gets: pure functions of seed, epoch, rank and size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.randomness import generator


def epoch_order(rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order (rows,) in which an epoch visits all rows, each once."""
    return generator(seed, "order", epoch).permutation(rows)


def batches(order: npt.NDArray[Any], batch_size: int) -> Iterator[npt.NDArray[Any]]:
    """Cut the order into global batches. The last batch holds the rows that are left, and is used too."""
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def share(rows: int, rank: int, size: int) -> slice:
    """The rows that this rank gets of a batch of `rows` rows: floor or ceil(rows / size) neighbours, maybe none.

    10 rows on 4 ranks: 0:2, 2:5, 5:7 and 7:10.
    """
    return slice(rows * rank // size, rows * (rank + 1) // size)
