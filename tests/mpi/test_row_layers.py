"""Layers that ask which rows they have, and layers that need all rows: the number of ranks changes nothing there."""

from pathlib import Path

import numpy as np
import pytest
from jobs import run_job

from ddp_numpy.runs.snapshot import read_snapshot

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, Path]:
    """The folders to which jobs of several numbers of ranks wrote what they trained with each exchange."""
    folders: dict[int | None, Path] = {ranks: tmp_path_factory.mktemp("trained") for ranks in (None, 2, 3, 5)}
    for ranks, folder in folders.items():
        job = run_job(ranks, HERE / "row_layers.py", folder, cwd=folder, env={"PYTHONPATH": str(HERE.parent)})
        assert job.status == 0, job.err
    return folders


@pytest.mark.parametrize("exchange", ["gradients", "factors", "gradients, reproducible", "factors, reproducible"])
def test_any_number_of_ranks_gives_the_same(exchange: str, trained: dict[int | None, Path]) -> None:
    found = {ranks: read_snapshot(folder / f"{exchange}.npz").arrays for ranks, folder in trained.items()}
    assert found[None].keys() == {"params", "buffers", "epoch_sums", "optimizer.velocity", "losses"}
    for ranks, arrays in found.items():
        for name, expected in found[None].items():
            if exchange.endswith("reproducible"):
                np.testing.assert_array_equal(arrays[name], expected, err_msg=f"{name} on {ranks} ranks")
            else:
                np.testing.assert_allclose(arrays[name], expected, rtol=0, atol=1e-12, err_msg=f"{name}, {ranks} ranks")
