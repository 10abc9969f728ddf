"""Holds rows out for validation."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.randomness import generator

Rows = npt.NDArray[np.int64]


def stratified_split(labels: npt.NDArray[Any], fraction: float, seed: int) -> tuple[Rows, Rows]:
    """Row numbers for training and for validation, each ascending; depends on nothing but the arguments.

    round(fraction * n) rows are held out, at least one and not all, and of each class as near to its fraction
    as whole rows allow (largest remainders).
    """
    held_out = min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    quotas = np.bincount(labels) * (held_out / len(labels))
    counts = np.floor(quotas).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: held_out - counts.sum()]] += 1
    rng = generator(seed, "split")
    chosen = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)]
    is_held_out = np.zeros(len(labels), np.bool_)
    is_held_out[np.concatenate(chosen)] = True
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)
