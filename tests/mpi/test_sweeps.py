"""Sweeps with real launches."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import JOB_SECONDS, MARK, Job, gone_within, kill, left_of, run_job
from tables import classified_rows, write_csv

SMALLEST = ("--data", "t.csv", "--repeat", "1", "--seconds", "0.1", "--batch-size", "16", "--out", "sweep")


def sweep(*arguments: str | Path, cwd: Path) -> Job:
    return run_job(None, "-m", "ddp_numpy.scaling", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_csv(tmp_path / "t.csv", *classified_rows(200))
    return tmp_path


def samples(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "sweep" / "samples.jsonl").read_text().splitlines()]


def test_the_smallest_sweep(folder: Path) -> None:
    options = ("--ranks", "1,2", "--mode", "both", "--target-loss", "100", *SMALLEST)
    job = run_job(None, "-m", "launch", "scaling", *options, cwd=folder)
    assert job.status == 0, job.err
    assert "strong scaling, 16 rows in the global batch" in job.out
    assert "weak scaling, 16 rows in the batch of each rank" in job.out
    found = samples(folder)
    points = {(sample["ranks"], sample["batch_size"], sample["alone"]) for sample in found}
    assert points == {(1, 16, True), (1, 16, False), (2, 16, False), (2, 32, False)}
    for sample in found:
        facts = sample["facts"]
        assert isinstance(facts, dict)
        assert len(facts["ranks_on"]) == sample["ranks"]
        assert facts["epochs_to_loss"] == 1
        assert (facts["mpi"] is None) == (sample["alone"] or sample["ranks"] == 1)
        assert str(facts["command"]).startswith("python -m ddp_numpy.scaling --ranks 1,2 --mode both")
        assert {"cpu", "kernel", "blas", "blas_threads", "versions", "commit", "command", "exchange"} <= facts.keys()
    table = (folder / "sweep" / "samples.csv").read_text().splitlines()
    assert len(table) == 1 + len(found)


def test_a_sweep_is_started_once(folder: Path) -> None:
    job = run_job(2, "-m", "ddp_numpy.scaling", "--ranks", "1", *SMALLEST, cwd=folder)
    assert job.status == 2
    assert "error: a sweep launches its ranks itself; start it once, without mpirun" in job.err


def test_a_sweep_that_is_broken_off_goes_on(folder: Path) -> None:
    command = [sys.executable, "-m", "ddp_numpy.scaling", "--ranks", "1,2", *SMALLEST, "--seconds", "1"]
    with subprocess.Popen(command, cwd=folder, env={**os.environ, MARK: str(folder)}) as process:
        try:
            deadline = time.monotonic() + JOB_SECONDS
            while not (folder / "sweep" / "samples.jsonl").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.5)  # the next launch is under way
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 128 + signal.SIGTERM
            assert gone_within(10, folder), "a launch stayed"
        finally:
            kill(left_of(str(folder)))
    first = samples(folder)
    assert 1 <= len(first) < 3
    job = sweep("--ranks", "1,2", *SMALLEST, "--seconds", "1", cwd=folder)
    assert job.status == 0, job.err
    assert len(samples(folder)) == 3
    assert samples(folder)[: len(first)] == first, "nothing is measured again"
    job = sweep("--ranks", "1,2", *SMALLEST, "--seconds", "2", cwd=folder)
    assert (job.status, job.error_lines) == (2, [
        "error: sweep/sweep.json: a sweep can't go on with another seconds; take a new folder for --out"
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("--ranks", "1,32"),
            "--ranks: 32 ranks can't share a batch of 16 rows; raise --batch-size, or take --mode weak",
        ),
        (("--ranks", "1,4", "--hosts", "localhost:2"), "4 ranks, but the hosts have 2 slots: raise slots or lower -n"),
        (("--ranks", "1,x"), "'1,x' is not numbers of ranks, like 1,2,4"),
        (("--ranks", "0"), "'0' is not numbers of ranks"),
        (("--ranks", "1", "--resume", "auto"), "--resume: a sweep only measures, and saves no model"),
        (("--ranks", "1", "--batch-size", "500"), "--batch-size 500: there are only 160 rows to train on"),
        (("--ranks", "1", "--data", "no.csv"), "no.csv"),
        (("--ranks", "1", "--optimizer", "adam", "--nesterov"), "--nesterov: needs --optimizer sgd"),
    ],
)
def test_sweeps_that_can_t_be(arguments: tuple[str, ...], words: str, folder: Path) -> None:
    job = sweep(*SMALLEST, *arguments, cwd=folder)
    assert job.status == 2
    assert len(job.error_lines) == 1
    assert words in job.error_lines[0]
    assert job.err.count("\n") == 1
