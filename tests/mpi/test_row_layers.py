"""Layers that ask which rows they have, and layers that need all rows: the number of ranks changes nothing there."""

from pathlib import Path

import numpy as np
import pytest
from jobs import run_job

from ddp_numpy.runs.snapshot import read_snapshot

HERE = Path(__file__).parent


@pytest.mark.parametrize("exchange", ["gradients", "factors", "gradients, reproducible", "factors, reproducible"])
def test_any_number_of_ranks_gives_the_same(exchange: str, tmp_path: Path) -> None:
    found = {}
    for ranks in (None, 2, 3, 5):
        out, env = tmp_path / f"{ranks}.npz", {"PYTHONPATH": str(HERE.parent)}
        job = run_job(ranks, HERE / "row_layers.py", out, exchange, cwd=tmp_path, env=env)
        assert job.status == 0, job.err
        found[ranks] = read_snapshot(out).arrays
    assert found[None].keys() == {"params", "buffers", "epoch_sums", "optimizer.velocity", "losses"}
    for ranks, arrays in found.items():
        for name, expected in found[None].items():
            if exchange.endswith("reproducible"):
                np.testing.assert_array_equal(arrays[name], expected, err_msg=f"{name} on {ranks} ranks")
            else:
                np.testing.assert_allclose(arrays[name], expected, rtol=0, atol=1e-12, err_msg=f"{name}, {ranks} ranks")
