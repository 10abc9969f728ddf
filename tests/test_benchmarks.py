"""The benchmarks' code, at their smallest setting. Their figures are no test's business."""

import json
import re
from pathlib import Path

import pytest
from jobs import run_job
from tables import classified_rows, write_csv

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow
def test_peers(tmp_path: Path) -> None:
    options = ("--rounds", "1", "--seconds", "0.05", "--batches", "64", "--json", tmp_path / "peers.json")
    options += ("--before", CHECKOUT)  # here the same version
    job = run_job(None, "-m", "benchmarks.peers", *options, cwd=CHECKOUT, timeout=120)
    assert job.status == 0, job.err
    assert re.search(r"^\| 2 ranks \| [\d,]+ \|$", job.out, re.MULTILINE)
    assert re.search(r"^\| images/s, 2 ranks / 1 \| \d+\.\d\d \(goal 1\.6\) \|$", job.out, re.MULTILINE)
    assert re.search(r"^\| copies of the data in memory, 4 ranks \(goal 1\.1\) \| \d+\.\d\d \|$", job.out, re.MULTILINE)
    assert re.search(r"^\| images/s, reproducible / fast of --before, 2 ranks \(?.*\| \d\.\d\d ", job.out, re.MULTILINE)
    assert json.loads((tmp_path / "peers.json").read_text())["2 ranks, batch 64"][0]["step"] > 0


@pytest.mark.slow
def test_peers_of_a_network_for_images() -> None:
    options = ("--network", "small-cnn", "--rounds", "1", "--seconds", "0.05", "--batches", "64")
    job = run_job(None, "-m", "benchmarks.peers", *options, cwd=CHECKOUT, timeout=120)
    assert job.status == 0, job.err
    assert re.search(r"^\| images/s, 2 ranks / 1 \| \d+\.\d\d \(goal 1\.8\) \|$", job.out, re.MULTILINE)


def test_results(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(60))
    options = ("--data", tmp_path / "t.csv", "--ranks", "1,2", "--seeds", "1-2")
    job = run_job(None, "-m", "benchmarks.results", *options, cwd=CHECKOUT, timeout=120)
    assert job.status == 0, job.err
    assert "over 2 seeds, 1 to 2" in job.out
    assert len(re.findall(r"^\| [12] \| (\d\.\d{4} \(\d\.\d{4} to \d\.\d{4}\) \| ){3}", job.out, re.MULTILINE)) == 2
