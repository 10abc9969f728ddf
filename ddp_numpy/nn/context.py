"""What a layer may know of the rows that it gets, besides their values."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclasses.dataclass
class Context:
    """Which rows these are, and what they are for: the same for every layer of a model.

    The rows that a layer gets follow one another in a global batch. Whatever a layer does must depend on their numbers
    there, and never on which rank has them: then the number of ranks does not change the result.
    """

    training: bool = False
    seed: int = 0
    step: int = 0
    """How many updates were made before: 0 at the first step of training."""
    first_row: int = 0
    """The number of the first of these rows in its global batch."""
    rows: int = 0
    """How many rows these are. A micro-shard may be filled up with rows behind these, which do not count.

    Their dY is 0, and a layer must leave their dX at 0: then they change no gradient, whatever rows they are.
    """
    global_rows: int = 0
    """How many rows the global batch has."""
    sum_rows: Callable[[Array], Array] = lambda partial: partial
    """Collective: from sums over these rows, (n,), to sums over all rows of the global batch, (n,), on every rank.

    If rows come in shards it takes the sums of each shard, (shards, n). A layer that calls it sets `joins_rows`.
    """


EVALUATION = Context()
"""Of rows that are only to be classified."""
