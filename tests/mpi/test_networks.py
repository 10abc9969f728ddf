"""Networks of each layer on several numbers of ranks: the same up to rounding, or to the last bit."""

from pathlib import Path

import pytest
from exchanging import NETWORKS, Weights, assert_same, weights, weights_alone
from jobs import openmpi_python


@pytest.fixture
def alone() -> Weights:
    return weights_alone(NETWORKS)


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_any_number_of_ranks_gives_the_same(ranks: int, alone: Weights, tmp_path: Path) -> None:
    assert_same(weights(tmp_path, "-n", str(ranks), script=NETWORKS), alone)


def test_another_mpi_gives_the_same(alone: Weights, tmp_path: Path) -> None:
    found = weights(tmp_path, "-n", "2", script=NETWORKS, comm="allreduce", python=openmpi_python())
    assert_same(found, alone)
