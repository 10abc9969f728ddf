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


def share(rows: int, rank: int, size: int, unit: int = 1) -> slice:
    """The rows that this rank gets of a batch of `rows` rows: floor or ceil(rows / size) neighbours, maybe none.

    10 rows on 4 ranks: 0:2, 2:5, 5:7 and 7:10. unit: rows that stay together, so in units of 4: 0:0, 0:4, 4:8 and 8:10.
    """
    units = -(-rows // unit)
    start, stop = units * rank // size * unit, units * (rank + 1) // size * unit
    return slice(min(start, rows), min(stop, rows))


def pieces(rows: slice, most: int | None) -> list[slice]:
    """These rows in pieces of so many rows, the last maybe shorter; None: in one. Of no rows there is one piece."""
    if most is None or rows.stop - rows.start <= most:
        return [rows]
    return [slice(start, min(start + most, rows.stop)) for start in range(rows.start, rows.stop, most)]
