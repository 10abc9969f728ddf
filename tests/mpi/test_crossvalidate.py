"""Cross-validation: each row validates once, and the ranks share the folds."""

import re
from pathlib import Path

import numpy as np
import pytest
from jobs import run_job
from tables import classified_rows, write_known_csv

from ddp_numpy.crossvalidate import mean_and_half, t_quantile
from ddp_numpy.data import stratified_folds


def test_the_ranks_share_the_folds_and_change_nothing(tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(120, features=6, classes=3))
    found = []
    for ranks in (None, 2, 3):
        options = ("--data", "t.csv", "--folds", "4", "--epochs", "5", "--batch-size", "16", "--lr", "0.1")
        job = run_job(ranks, "-m", "ddp_numpy.crossvalidate", *options, cwd=tmp_path)
        assert job.status == 0, job.err
        found.append([line for line in job.out.splitlines() if "ranks" not in line])
    assert found[0] == found[1] == found[2]
    table = [line.split() for line in found[0] if re.match(" +[0-9]", line)]
    assert [(row[0], row[1]) for row in table] == [(str(fold), "30") for fold in range(1, 5)]
    shares = [float(row[3].removesuffix("%")) for row in table]
    assert f"mean accuracy {np.mean(shares):.2f}%" in found[0][-1]
    assert not (tmp_path / "runs").exists()


def test_numbers_are_validated_too(tmp_path: Path) -> None:
    X, y = classified_rows(60, features=3, classes=3)
    write_known_csv(tmp_path / "t.csv", X, y + X[:, 0])
    job = run_job(
        2, "-m", "ddp_numpy.crossvalidate", "--data", "t.csv", "--task", "regress", "--epochs", "2", cwd=tmp_path
    )
    assert job.status == 0, job.err
    assert re.search(r"^mean RMSE [0-9.]+, 95 % interval", job.out, re.MULTILINE)
    assert job.out.splitlines()[-1].startswith("mean R² ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--folds", "61"), "error: --folds 61: there are only 60 rows"),
        (("--out", "x"), "error: --out: cross-validation has no use for it; leave it out"),
        (("--lr", "1e30"), "error: "),
    ],
)
def test_mistakes_are_one_line_on_any_ranks(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(60, features=3, classes=3))
    for ranks in (None, 3):
        job = run_job(ranks, "-m", "ddp_numpy.crossvalidate", "--data", "t.csv", *options, cwd=tmp_path)
        assert job.status == (1 if "1e30" in options else 2)
        assert [line for line in job.err.splitlines() if line] == job.error_lines
        assert len(job.error_lines) == 1
        assert job.error_lines[0].startswith(message)


def test_a_class_of_one_row_is_refused(tmp_path: Path) -> None:
    X, y = classified_rows(60, features=3, classes=3)
    y[:] = np.arange(60) % 2
    y[7] = 2
    write_known_csv(tmp_path / "t.csv", X, y)
    job = run_job(None, "-m", "ddp_numpy.crossvalidate", "--data", "t.csv", cwd=tmp_path)
    assert job.error_lines == ["error: class 2 has 1 row; cross-validation needs at least 2 of each, as one validates"]


def test_each_row_validates_once_and_folds_are_alike() -> None:
    labels = np.random.default_rng(8).integers(3, size=101)
    folds = stratified_folds(labels, 4, seed=1)
    assert sorted(np.bincount(folds)) == [25, 25, 25, 26]
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=4)
        assert counts.max() - counts.min() <= 1
    assert not np.array_equal(folds, stratified_folds(labels, 4, seed=2))
    np.testing.assert_array_equal(folds, stratified_folds(labels, 4, seed=1))


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045)])
def test_the_interval_is_students(freedom: int, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=6e-4)


def test_mean_and_interval() -> None:
    mean, half = mean_and_half([1.0, 2.0, 3.0])
    assert (mean, half) == (2, pytest.approx(4.303 / np.sqrt(3), rel=1e-3))
