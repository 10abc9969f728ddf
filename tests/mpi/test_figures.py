"""The figures that the README promises, on the 42,000 rows they are measured on."""

import json
from pathlib import Path

import numpy as np
import pytest
from jobs import train

from ddp_numpy.data.idx import read_idx_split


@pytest.mark.slow
def test_the_default_network_learns_what_the_readme_says(mnist: Path, tmp_path: Path) -> None:
    X, y = read_idx_split(mnist, "train")
    rows = np.random.default_rng(0).permutation(len(X))[:42_000]
    np.savez(tmp_path / "train.npz", X=X[rows], y=y[rows])
    last = []
    for seed in ("1", "2", "3"):
        job = train(2, "--data", "train.npz", "--seed", seed, "--out", seed, "--quiet", cwd=tmp_path)
        assert job.status == 0, job.err
        last.append(json.loads((tmp_path / seed / "metrics.jsonl").read_text().splitlines()[19]))
    assert abs(np.mean([epoch["train_loss"] for epoch in last]) - 0.14) <= 0.01
    assert np.mean([epoch["valid_accuracy"] for epoch in last]) > 0.945
