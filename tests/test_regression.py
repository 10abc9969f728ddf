"""A label that is a number: RMSE and R squared, in its units, from the command line to the model file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs import run_job, train

from ddp_numpy import (
    Dataset,
    Dense,
    Huber,
    InputError,
    ReLU,
    Sequential,
    SingleProcess,
    Trainer,
    load_data,
    load_model,
    save_model,
)
from ddp_numpy.data import Reader
from ddp_numpy.exchange import FactorExchange
from ddp_numpy.optim import Adam

COMM = SingleProcess()


def write_houses(path: Path, rows: int = 400) -> Path:
    """Prices of some 200,000, which rooms, metres and a year explain but for noise of 5,000."""
    rng = np.random.default_rng(4)
    table = pd.DataFrame({"rooms": rng.integers(1, 9, rows), "metres": rng.normal(90, 30, rows).round(1)})
    table["year"] = rng.integers(1900, 2026, rows)
    price = 20_000 * table["rooms"] + 900 * table["metres"] + 300 * (table["year"] - 1900) + rng.normal(0, 5000, rows)
    table.insert(0, "price", price.round(2))
    table.to_csv(path, index=False)
    return path


def houses(folder: Path) -> tuple[Dataset, Dataset]:
    return load_data(str(write_houses(folder / "t.csv")), COMM, label_column="price", task="regress")


@pytest.mark.parametrize("reproducible", [False, True])
@pytest.mark.parametrize("loss", [None, Huber])
def test_the_figures_are_those_of_the_predictions(loss: type | None, reproducible: bool, tmp_path: Path) -> None:
    train_data, valid = houses(tmp_path)
    model = Sequential(Dense(16), ReLU(), Dense(1))
    exchange = FactorExchange() if reproducible else None
    last = Trainer(model, Adam(lr=0.01), COMM, loss=loss, exchange=exchange).train(train_data, valid, 40)[-1]
    save_model(model, tmp_path / "m.npz")
    for predictions in (model.predict(valid.features), load_model(tmp_path / "m.npz").predict(valid.features)):
        squares = np.square(predictions - valid.labels)
        assert last.valid_rmse == pytest.approx(np.sqrt(squares.mean()), rel=1e-5)
        assert last.valid_r2 == pytest.approx(1 - squares.sum() / np.square(valid.labels - valid.labels.mean()).sum())
    assert last.valid_r2 is not None
    assert last.valid_r2 > 0.97
    assert last.train_rmse is not None
    assert 4000 < last.train_rmse < 8000  # the noise, and what is not learnt yet
    assert last.valid_accuracy is None
    with pytest.raises(InputError, match="the model predicts numbers, and has no probabilities"):
        model.predict_proba(valid.features)


def test_numbers_are_standardized_by_the_training_rows(tmp_path: Path) -> None:
    train_data, valid = houses(tmp_path)
    assert (train_data.classes, train_data.outputs, train_data.class_names) == (0, 1, ())
    _, y = Reader(train_data, np.float32).read(np.arange(len(train_data)))
    assert (y.mean(), y.std()) == pytest.approx((0, 1), abs=1e-12)
    _, y = Reader(valid, np.float32).read(np.array([0, 1]))
    mean, deviation = train_data.labels.mean(), train_data.labels.std()
    np.testing.assert_allclose(y, (valid.labels[:2] - mean) / deviation, rtol=1e-12)


@pytest.mark.parametrize(
    ("column", "task", "message"),
    [
        (
            "price",
            None,
            r"row 1: label column 'price' is \d+\.\d+, which is no class; predict a number with --task reg",
        ),
        (
            "year",
            None,
            "label column 'year' has 1[12][0-9] different numbers in 400 rows: predict a number with --task",
        ),
        ("price", "classify", r"row 1: label \d+\.\d+ is no whole number"),
        ("day", "regress", "--task regress predicts numbers, and label column 'day' holds text: could not convert"),
        ("one", "regress", "label column 'one' is 1 in all 400 rows: there is nothing to learn"),
    ],
)
def test_what_a_task_does_not_fit(column: str, task: str | None, message: str, tmp_path: Path) -> None:
    path = write_houses(tmp_path / "t.csv")
    pd.read_csv(path).assign(day="2026-11-27", one=1).to_csv(path, index=False)
    drop = [name for name in ("day", "one") if name != column]
    with pytest.raises(InputError, match=message):
        load_data(str(path), COMM, label_column=column, task=task, drop=drop)


def test_each_number_may_be_a_class(tmp_path: Path) -> None:
    path = write_houses(tmp_path / "t.csv")
    train_data, _ = load_data(str(path), COMM, label_column="year", task="classify")
    assert train_data.classes == len(train_data.class_names) > 100


def test_figures_that_are_not_finite_are_no_torn_checkpoint(tmp_path: Path) -> None:
    """The rows that validate may all have one number, or so large a one that its square is none."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(50, 3)), rng.normal(size=50)
    valid_rows = np.array([row in load_data((X, y), COMM, task="regress")[1].labels for row in y])
    for same in (2.0, 1e200):
        table = pd.DataFrame(X, columns=list("abc")).assign(label=np.where(valid_rows, same, y))
        table.to_csv(tmp_path / "t.csv", index=False)
        out = f"run{same:g}"
        options = ("--data", "t.csv", "--task", "regress", "--out", out, "--hidden", "4")
        assert train(None, *options, "--epochs", "2", cwd=tmp_path).status == 0
        job = train(2, "--resume", "auto", "--out", out, "--epochs", "3", cwd=tmp_path)
        assert job.status == 0, job.err


OPTIONS = ("--data", "t.csv", "--label-column", "price", "--task", "regress", "--lr", "0.05", "--batch-size", "50")


def test_a_run_shows_its_figures_and_goes_on(tmp_path: Path) -> None:
    write_houses(tmp_path / "t.csv")
    job = train(2, *OPTIONS, "--loss", "huber", "--epochs", "3", "--out", "run", cwd=tmp_path)
    assert job.status == 0, job.err
    (head,) = (line for line in job.out.splitlines() if "valid loss" in line)
    assert head.split()[-5:] == ["loss", "RMSE", "R²", "images/s", "seconds"]
    assert "Huber loss, delta 1" in job.out
    job = train(3, "--loss", "mse", "--resume", "auto", "--epochs", "5", "--out", "run", cwd=tmp_path)
    assert job.status == 2
    assert "--loss was huber, now mse" in job.error_lines[0]
    job = train(3, "--resume", "auto", "--epochs", "5", "--out", "run", cwd=tmp_path)
    assert job.status == 0, job.err
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4, 5]
    assert {"train_rmse", "valid_rmse", "valid_r2"} <= lines[-1].keys()
    assert not any("accuracy" in name for name in lines[-1])
    best = load_model(tmp_path / "run" / "checkpoints" / "best.npz")
    assert best.predict(np.array([[3, 90.0, 1990]])) == pytest.approx(168_000, rel=0.3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ("--loss", "cross-entropy"),
            "--loss cross-entropy: the labels are numbers to predict; leave it out, or choose",
        ),
        (("--label-smoothing", "0.1"), "--label-smoothing: there are no classes; leave it out"),
        (("--huber-delta", "2"), "--huber-delta: needs --loss huber"),
    ],
)
def test_options_that_do_not_fit_are_one_line(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    write_houses(tmp_path / "t.csv")
    job = train(None, *OPTIONS, *options, cwd=tmp_path)
    assert job.status == 2
    assert job.error_lines[0].startswith(f"error: {message}")


@pytest.mark.parametrize("way", [(), ("--reproducible",)])
def test_any_number_of_ranks_predicts_the_same(way: tuple[str, ...], tmp_path: Path) -> None:
    write_houses(tmp_path / "t.csv")
    job = run_job(None, "-m", "ddp_numpy.verify", "--ranks", "1,2,3", *way, *OPTIONS, "--epochs", "2", cwd=tmp_path)
    assert job.status == 0, job.err
    assert job.out.splitlines()[-1].startswith("EQUAL TO THE LAST BIT" if way else "EQUAL UP TO ROUNDING")
