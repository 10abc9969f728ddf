"""A run goes on with another learning rate on purpose, and the advice after a divergence works as it is printed."""

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import Job, train
from tables import classified_rows, write_known_csv

from ddp_numpy import InputError, load_model
from ddp_numpy.runs.snapshot import read_snapshot

OPTIONS = ("--batch-size", "24", "--lr", "0.05", "--momentum", "0.9", "--quiet", "--out", "my run")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_known_csv(tmp_path / "table.csv", *classified_rows(300))  # 10 steps an epoch


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def newest_facts(folder: Path) -> dict[str, Any]:
    return read_snapshot(max((folder / "checkpoints").glob("step-*.npz"))).facts


def advised(job: Job) -> list[str]:
    """The options that a diverged job advises to go on with."""
    assert (job.status, len(job.error_lines)) == (1, 1), job.err
    (line,) = job.error_lines
    assert "is not a finite number" in line
    return shlex.split(line[line.index("--resume") :])


@pytest.mark.parametrize("ranks", [None, 2])
def test_an_override_is_noted_and_stays(ranks: int | None, table: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    assert train(ranks, "--data", table, *OPTIONS, "--epochs", "2", cwd=tmp_path).status == 0
    more = ("--quiet", "--resume", "auto", "--out", "my run", "--epochs")
    refused = train(ranks, *more, "3", "--lr", "0.01", cwd=tmp_path)
    assert "--lr was 0.05, now 0.01 (--override lr=0.01 changes it)" in refused.error_lines[0]
    overrides = ("--override", "lr=0.01", "--override", "clip-norm=0.5")
    job = train(ranks, *more, "3", *overrides, cwd=tmp_path)
    assert (job.status, job.err) == (0, "")
    assert train(ranks, *more, "4", cwd=tmp_path).status == 0, "the new rate is the run's own now"
    assert train(ranks, *more, "5", *overrides, cwd=tmp_path).status == 0, "given again, nothing changes"
    assert [(line["epoch"], line.get("lr"), line.get("clip_norm")) for line in metrics(run)] == [
        (1, 0.05, None), (2, 0.05, None), (3, 0.01, 0.5), (4, 0.01, 0.5), (5, 0.01, 0.5),
    ]  # fmt: skip
    facts = newest_facts(run)
    assert (facts["options"]["lr"], facts["options"]["clip-norm"]) == (0.01, 0.5)
    assert facts["overrides"] == [
        {"epoch": 2, "step": 0, "option": "lr", "was": 0.05, "now": 0.01},
        {"epoch": 2, "step": 0, "option": "clip-norm", "was": None, "now": 0.5},
    ]
    assert "lr = 0.01" in (run / "config.toml").read_text()


def test_momentum_may_begin_and_end(table: Path, tmp_path: Path) -> None:
    assert train(None, "--data", table, *OPTIONS, "--epochs", "1", cwd=tmp_path).status == 0
    more = ("--quiet", "--resume", "auto", "--out", "my run", "--epochs")
    for epochs, momentum in (("2", "0"), ("3", "0.5")):
        assert train(None, *more, epochs, "--override", f"momentum={momentum}", cwd=tmp_path).status == 0
        newest = max((tmp_path / "my run" / "checkpoints").glob("step-*.npz"))
        assert ("optimizer.velocity" in read_snapshot(newest).arrays) == (momentum != "0")


def test_the_advice_after_a_divergence_works_as_printed(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    assert train(None, "--data", table, *OPTIONS, "--epochs", "2", cwd=tmp_path).status == 0
    job = train(2, "--resume", "auto", "--out", "my run", "--epochs", "3", "--override", "lr=1e6", cwd=tmp_path)
    for rate in ("100000", "10000", "1000", "100", "10"):
        advice = advised(job)
        assert advice == ["--resume", "auto", "--out", "my run", "--override", f"lr={rate}", "--epochs", "3"]
        job = train(2, *advice, cwd=tmp_path)
        if job.status == 0:
            break
    assert job.status == 0, job.err
    assert metrics(run)[2]["lr"] == newest_facts(run)["options"]["lr"] == float(rate)
    # It may be given behind the command of before, whose rate is then no mistake.
    whole = ("--data", table, *OPTIONS, "--epochs", "4", "--resume", "auto", "--override", "lr=0.01")
    assert "--lr is 0.05, but --override says 0.01" in train(None, *whole, cwd=tmp_path).error_lines[0]
    assert train(None, *whole, "--lr", rate, cwd=tmp_path).status == 0


def test_a_checkpoint_that_would_diverge_at_any_rate_is_not_advised(table: Path, tmp_path: Path) -> None:
    run = tmp_path / "my run"
    begin = ("--data", table, *OPTIONS, "--checkpoint-every", "1", "steps")
    assert train(None, *begin, "--epochs", "2", cwd=tmp_path).status == 0
    job = train(None, "--resume", "auto", "--out", "my run", "--epochs", "3", "--override", "lr=1e6", cwd=tmp_path)
    newest = max((run / "checkpoints").glob("step-*.npz"))
    again = train(None, "--resume", "auto", "--out", "my run", "--override", "lr=1e-9", cwd=tmp_path)
    assert (again.status, len(again.error_lines)) == (1, 1), "its weights are so large that no rate helps"
    for failed, rate in ((job, "100000"), (again, "1e-10")):
        (line,) = failed.error_lines
        assert "The last checkpoint would fail again at any rate: go on with --resume" in line
        path = "my run/checkpoints/best.npz"
        assert advised(failed)[:6] == ["--resume", path, "--out", "my run", "--override", f"lr={rate}"]
    job = train(None, *advised(job)[:4], "--override", "lr=0.01", "--epochs", "2", cwd=tmp_path)
    assert job.status == 0, job.err
    # What was after the best checkpoint is out of the way, so that the next start goes on from here.
    assert not newest.exists()
    assert list(run.rglob(newest.name))
    assert [line["epoch"] for line in metrics(run)] == [1, 2]
    job = train(None, "--resume", "auto", "--out", "my run", "--epochs", "4", cwd=tmp_path)
    assert job.status == 0, job.err
    assert metrics(run)[-1]["lr"] == newest_facts(run)["options"]["lr"] == 0.01
    assert np.isfinite(load_model(run / "model.npz").params).all()


def test_a_run_whose_only_checkpoint_would_fail_again_begins_anew(table: Path, tmp_path: Path) -> None:
    bad = ("--data", table, "--lr", "1e6", "--batch-size", "24", "--out", "run", "--keep", "1")
    job = train(None, *bad, "--checkpoint-every", "1", "steps", cwd=tmp_path)
    assert (job.status, len(job.error_lines)) == (1, 1)
    advice = "The only checkpoint would fail again at any rate: begin anew, with a lower --lr and another --out"
    assert job.error_lines[0].endswith(advice)


def test_a_checkpoint_with_numbers_that_are_not_finite_is_passed_over(table: Path, tmp_path: Path) -> None:
    assert train(None, "--data", table, *OPTIONS, "--epochs", "2", cwd=tmp_path).status == 0
    newest = max((tmp_path / "my run" / "checkpoints").glob("step-*.npz"))
    with np.load(newest) as arrays:
        members = dict(arrays)
    members["params"][3] = np.inf
    np.savez(newest, **members)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="the array params holds a number that is not finite"):
        read_snapshot(newest)
    job = train(None, "--resume", "auto", "--out", "my run", "--quiet", cwd=tmp_path)
    assert job.status == 0, job.err
    assert "taking the one before it" in job.err
