"""What earlier versions wrote stays readable: models predict, options train the same, checkpoints resume."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from jobs import train

from ddp_numpy import load_model
from ddp_numpy.data.files import read_table

WRITTEN = Path(__file__).parent / "data" / "written"
TABLE = WRITTEN / "table.csv"
every_run = pytest.mark.parametrize("run", ["fast", "reproducible"])
# Two CPUs may take different BLAS kernels: their sums differ by rounding.
TOLERANCE = {"fast": 1e-5, "reproducible": 1e-12}


def figures(folder: Path) -> list[dict[str, float]]:
    """The metrics of a run without its times."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("images_per_second", "seconds", "waiting")} for line in lines]


def assert_same_result(folder: Path, run: str) -> None:
    expected = load_model(WRITTEN / run / "model.npz").params
    np.testing.assert_allclose(load_model(folder / "model.npz").params, expected, rtol=0, atol=TOLERANCE[run])
    for ours, theirs in zip(figures(folder), figures(WRITTEN / run), strict=True):
        # Later versions add figures.
        assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=TOLERANCE[run])


@every_run
def test_a_model_predicts_what_it_did(run: str) -> None:
    X = read_table(TABLE).features
    expected = [int(digit) for digit in (WRITTEN / run / "predictions.txt").read_text().strip()]
    assert load_model(WRITTEN / run / "model.npz").predict(X).tolist() == expected


@every_run
def test_options_train_the_same_again(run: str, tmp_path: Path) -> None:
    # These versions had one way of scaling, and so no option that named it.
    options = ("--config", WRITTEN / run / "config.toml", "--data", TABLE, "--scale", "divide", "--out", "again")
    job = train(None, *options, cwd=tmp_path)
    assert job.status == 0, job.err
    assert_same_result(tmp_path / "again", run)


@every_run
@pytest.mark.parametrize("ranks", [None, 2])
def test_a_run_is_resumed_and_ends_as_it_would_have(run: str, ranks: int | None, tmp_path: Path) -> None:
    shutil.copytree(WRITTEN / run, tmp_path / "run")
    (tmp_path / "run" / "model.npz").unlink()
    job = train(ranks, "--resume", "auto", "--out", "run", "--data", TABLE, cwd=tmp_path)
    assert job.status == 0, job.err
    assert "after epoch 1, step 2, from run/checkpoints/step-0000000006.npz" in job.out
    assert_same_result(tmp_path / "run", run)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("--lr", "0.1"), "--lr was 0.05, now 0.1"),
        (("--hidden", "9"), "--hidden was 8, now 9"),
        (("--clip-norm", "3"), "--clip-norm was 2.0, now 3.0"),
        (("--reproducible",), "--reproducible was False, now True"),
        (("--valid-fraction", "0.3"), "SHA-256 of the training rows was 8f084ad7"),
    ],
)
def test_a_change_of_its_result_is_refused(change: tuple[str, ...], words: str, tmp_path: Path) -> None:
    shutil.copytree(WRITTEN / "fast", tmp_path / "run")
    job = train(None, "--resume", "run", "--data", TABLE, *change, cwd=tmp_path)
    assert (job.status, len(job.error_lines)) == (2, 1)
    assert words in job.error_lines[0]
