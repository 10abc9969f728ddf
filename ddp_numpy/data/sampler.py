"""Which rows make up which batch, and which of them are whose: pure functions of seed, epoch, rank and size."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.randomness import generator


def epoch_order(rows: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    """The order (rows,) in which an epoch visits all rows, each once."""
    return generator(seed, "order", epoch).permutation(rows)


def batches(order: npt.NDArray[Any], batch_size: int) -> Iterator[npt.NDArray[Any]]:
    """The order cut into global batches; the last one holds what is left, and is used too."""
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def share(rows: int, rank: int, size: int) -> slice:
    """The run of a batch of `rows` rows that is this rank's: floor or ceil(rows / size) of them, maybe none."""
    return slice(rows * rank // size, rows * (rank + 1) // size)
