"""Rows from files of their own, to validate and to test."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs import train
from test_columns import passengers

from ddp_numpy import InputError, SingleProcess, load_data
from ddp_numpy.data import Dataset, load_more

NAMES = np.array(["no", "yes"])


def named(n: int = 60) -> pd.DataFrame:
    """Rows whose label is a name."""
    return passengers(n).assign(label=NAMES[passengers(n)["label"]])


def loaded(source: Any, **options: Any) -> tuple[Dataset, Dataset]:
    return load_data(source, SingleProcess(), **options)


def test_rows_of_another_file_are_those_that_the_split_would_give(tmp_path: Path) -> None:
    """The same rows come out alike, whichever way they come in."""
    table = named()
    table.to_csv(tmp_path / "t.csv", index=False)
    train, valid = loaded(tmp_path / "t.csv", missing="mean")
    held_out = load_more(table, train, SingleProcess())
    assert len(train) + len(valid) == len(held_out) == 60
    rows = {(*row, label) for row, label in zip(held_out.features.tolist(), held_out.labels.tolist(), strict=True)}
    for data in (train, valid):
        for row, label in zip(data.features.tolist(), data.labels.tolist(), strict=True):
            assert (*row, label) in rows
    assert (held_out.columns, held_out.class_names) == (train.columns, ("no", "yes"))


def test_any_order_of_columns_and_any_way_to_write_a_class(tmp_path: Path) -> None:
    table = passengers()
    whole, _ = loaded(table, missing="mean")
    expected = load_more(table, whole, SingleProcess())
    others = table.assign(more=1.5).astype({"label": float})[["more", *table.columns[::-1]]]
    others.to_csv(tmp_path / "v.tsv", index=False, sep="\t")
    X, y = table.drop(columns="label"), table["label"].astype(str)
    for source in (others, tmp_path / "v.tsv", (X, y)):
        found = load_more(source, whole, SingleProcess())
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.features, expected.features, rtol=1e-6)


def test_all_rows_train_if_others_validate() -> None:
    table = passengers()
    train, valid = loaded(table, valid=table.iloc[:10], missing="mean")
    assert (len(train), len(valid)) == (60, 10)
    assert train.doubts[0].startswith("fewer than 10 rows") or "10 of 10 rows that validate" in train.doubts[0]
    alone = loaded(table.iloc[:30], valid=table, missing="drop")
    assert len(alone[1]) == 46


def test_arrays(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    X, y = rng.normal(size=(40, 3)).astype(np.float32), np.tile(["b", "a"], 20)
    np.savez(tmp_path / "v.npz", X=X[:9], y=y[:9])
    train, valid = loaded((X, y), valid=tmp_path / "v.npz")
    np.testing.assert_array_equal(valid.features, X[:9])
    np.testing.assert_array_equal(np.array(valid.class_names)[valid.labels], y[:9])
    with pytest.raises(InputError, match="its rows have 2 features, and those to train on 3"):
        load_more((X[:, :2], y), train, SingleProcess())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="age"), "has no column 'age', which the rows to train on have"),
        (lambda t: t.drop(columns="label"), "has no column 'label', which the rows to train on have"),
        (lambda t: t.assign(label="maybe"), "row 1: label maybe is none of the classes to train on, no, yes"),
        (lambda t: t.assign(label=None), "row 1, column 'label': the label is missing"),
        (lambda t: t.assign(deck="x"), "row 1, column 'deck': 'x' is not a number"),
        (lambda t: t.iloc[:0], "has a header line but no rows"),
    ],
)
def test_rows_that_do_not_fit_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    train, _ = loaded(named(), missing="mean")
    change(named()).to_csv(tmp_path / "v.csv", index=False)
    with pytest.raises(InputError, match=f"v.csv: {message}"):
        load_more(tmp_path / "v.csv", train, SingleProcess())


def test_sources_that_validate_by_themselves() -> None:
    with pytest.raises(InputError, match="digits: has rows to validate of its own; leave --valid out"):
        loaded("digits", valid=named())


@pytest.mark.parametrize("ranks", [None, 3])
def test_the_command_judges_the_trained_model_once(ranks: int | None, tmp_path: Path) -> None:
    for name, part in (("t.csv", slice(0, 40)), ("v.csv", slice(40, 60)), ("x.csv", slice(30, 60))):
        named().iloc[part].to_csv(tmp_path / name, index=False)
    options = ("--valid", "v.csv", "--test", "x.csv", "--missing", "mean", "--out", "run", "--dtype", "float64")
    job = train(ranks, "--data", "t.csv", *options, "--epochs", "3", "--class-weight", "balanced", cwd=tmp_path)
    assert job.status == 0, job.err
    assert "40 rows to train, 20 to validate" in job.out
    assert "class weights" in job.out
    judged = json.loads((tmp_path / "run" / "test.json").read_text())
    assert (judged["data"], judged["rows"]) == ("x.csv", 30)
    assert judged["test_accuracy_interval"][0] < judged["test_accuracy"] <= judged["test_accuracy_interval"][1]
    assert f"test: accuracy {judged['test_accuracy']:.2%}" in job.out.splitlines()[-1]
    assert judged["test_loss"] == pytest.approx(0.7100021637080062, rel=1e-12), "on any number of ranks"


def test_what_can_not_be_read_is_said_before_training(tmp_path: Path) -> None:
    named().to_csv(tmp_path / "t.csv", index=False)
    job = train(None, "--data", "t.csv", "--missing", "mean", "--test", "none.csv", cwd=tmp_path)
    assert job.status == 2
    assert job.error_lines == ["error: none.csv: no such file"]
    assert "epoch" not in job.out


@pytest.mark.parametrize("exchange", ["factors", "gradients"])
def test_a_very_rare_class_trains_reproducibly(exchange: str, tmp_path: Path) -> None:
    """Its rows weigh 5,000 times as much, so their losses are large."""
    X, y = np.random.default_rng(9).normal(size=(20_000, 2)), np.zeros(20_000, int)
    y[:2], X[:2] = 1, 5
    np.savez(tmp_path / "t.npz", X=X, y=y)
    options = ("--class-weight", "balanced", "--reproducible", "--exchange", exchange, "--clip-norm", "1")
    job = train(2, "--data", "t.npz", "--epochs", "1", *options, cwd=tmp_path)
    assert job.status == 0, job.err


def test_weights_make_classes_count_alike() -> None:
    table = passengers()
    train, _ = loaded(table.iloc[:40], valid=table, missing="mean")
    weights = np.array(train.balanced_weights())
    rows = np.bincount(train.labels)
    np.testing.assert_allclose(weights * rows, 20)


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_label_that_is_missing_among_texts_in_memory_is_no_class(missing: object) -> None:
    with pytest.raises(InputError, match="the data: row 2: the label is missing; drop the row"):
        load_data((np.zeros((4, 2)), ["a", missing, "b", "a"]), SingleProcess())
