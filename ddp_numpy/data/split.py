"""Holds out rows for validation."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.randomness import generator

Rows = npt.NDArray[np.int64]


def stratified_folds(labels: npt.NDArray[Any], folds: int, seed: int) -> npt.NDArray[np.int64]:
    """For each row (n,) the fold, 0 to folds - 1, in which it validates. They depend on the arguments alone.

    The rows of each class are shuffled, and all are dealt out one by one, class after class. So two folds differ by at
    most one row, and by at most one of each class. Example: of classes a a a b b, two folds get a a b and a b.
    """
    rng = generator(seed, "split")
    order = np.concatenate([rng.permutation(np.flatnonzero(labels == label)) for label in np.unique(labels)])
    found = np.empty(len(labels), np.int64)
    found[order] = np.arange(len(labels)) % folds
    return found


def stratified_split(labels: npt.NDArray[Any], fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Row numbers for training and for validation, each ascending. They depend on the arguments alone.

    round(fraction * n) rows are held out, at least one and not all. Of each class, the number held out is as near to
    its fraction as whole rows allow (largest remainders). Example: fraction 0.4 of classes with 5, 3 and 2 rows is
    2.0, 1.2 and 0.8 rows, 4 in all. The whole parts 2, 1 and 0 leave one row over; it goes to the 0.8: 2, 1 and 1.

    But one row of each class stays for training, because a model can't learn a class that it never sees. Example: of
    classes with 5 and 1 rows, fraction 0.7 would hold out 3 and 1 rows; 3 and 0 are held out.
    """
    held_out = min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    rows = np.bincount(labels)
    quotas = rows * (held_out / len(labels))
    counts = np.floor(quotas).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: held_out - counts.sum()]] += 1
    counts = np.minimum(counts, np.maximum(rows - 1, 0))
    rng = generator(seed, "split")
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)]
    is_held_out = np.zeros(len(labels), np.bool_)
    is_held_out[np.concatenate(chosen)] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
