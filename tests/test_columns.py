"""Columns of categories and with missing values: what a network takes of them, in training and after it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ddp_numpy import Dense, InputError, ReLU, Sequential, SingleProcess, Trainer, load_data, load_model, save_model
from ddp_numpy.base.columns import Column, encode, expand
from ddp_numpy.data import Dataset
from ddp_numpy.optim import Adam

PLACES = np.array(["Oslo", "Bergen", "Tromsø"])


def passengers(n: int = 60) -> pd.DataFrame:
    """A label, a category that tells it, one that does not, and numbers; some ages and places are missing."""
    rng = np.random.default_rng(4)
    sex = np.where(rng.random(n) < 0.5, "f", "m")
    age = np.where(np.arange(n) % 10 == 3, np.nan, rng.normal(40, 10, n).round())
    place = pd.Series(rng.choice(PLACES, n)).mask(np.arange(n) % 7 == 2)
    deck = rng.integers(1, 4, n)
    return pd.DataFrame({"label": (sex == "f") * 1, "sex": sex, "age": age, "place": place, "deck": deck})


def loaded(table: Any, **options: Any) -> tuple[Dataset, Dataset]:
    return load_data(table, SingleProcess(), **options)


def trained(table: Any, **options: Any) -> Sequential:
    train, valid = loaded(table, **options)
    model = Sequential(Dense(8), ReLU(), Dense(train.outputs))
    Trainer(model, Adam(lr=0.02), SingleProcess(), batch_size=8).train(train, valid, 20)
    return model


def test_categories_and_missing_values_become_features() -> None:
    train, valid = loaded(passengers(), missing="mean", scale="none")
    rows = pd.concat([passengers()["sex"], passengers()["age"]], axis=1)
    assert train.columns == (
        Column("sex", ("f", "m"), 0.0, False),
        Column("age", (), train.columns[1].fill, True),
        Column("place", ("Bergen", "Oslo", "Tromsø"), 0.0, True),
        Column("deck", (), train.columns[3].fill, False),
    )
    female, male, age, no_age, *place, no_place, deck = train.features.T
    np.testing.assert_array_equal(female, train.labels)
    np.testing.assert_array_equal(female + male, 1)
    assert set(age[no_age == 0]) <= set(rows["age"])
    np.testing.assert_array_equal(age[no_age == 1], np.float32(train.columns[1].fill))
    assert train.columns[1].fill == pytest.approx(age[no_age == 0].mean(), rel=1e-6), "of the rows that train alone"
    np.testing.assert_array_equal(sum(place) + no_place, 1)
    assert set(deck) == {1, 2, 3}
    assert len(train) + len(valid) == 60
    assert sum(no_age) + sum(valid.features[:, 3]) == 6


@pytest.mark.parametrize("scale", ["auto", "standard", "minmax", "robust", "divide:4"])
def test_what_is_yes_or_no_is_not_scaled(scale: str) -> None:
    train, _ = loaded(passengers(), missing="mean", scale=scale)
    assert train.scale.shift is not None
    yes_or_no = [0, 1, 3, 4, 5, 6, 7]
    assert (train.scale.divisor[[2, 8]] != 1).all()
    assert (train.scale.divisor[yes_or_no] == 1).all()
    assert (train.scale.shift[yes_or_no] == 0).all()


def test_rows_with_missing_values_are_dropped_and_the_others_keep_their_numbers() -> None:
    table = passengers()
    train, valid = loaded(table, missing="drop")
    assert len(train) + len(valid) == table.notna().all(axis=1).sum() == 46
    assert "rows with a missing value, 14 of 60: left out" in train.notes
    assert "column 'n' counts the rows: left out" in loaded(table.assign(n=range(60)), missing="drop")[0].notes
    for column, value, message in (
        ("age", np.inf, "row 60, column 'age': 'inf' is not a finite number"),
        ("label", 0.5, "row 60: label column 'label' is 0.5, which is no class"),
        ("age", 1e39, "row 60, column 'age': 1e\\+39 is not a finite float32"),
    ):
        table = passengers().astype({"label": float})
        table.loc[59, column] = value
        with pytest.raises(InputError, match=message):
            loaded(table, missing="drop")
    with pytest.raises(InputError, match="each row has a missing value; --drop leaves a column out"):
        loaded(passengers().assign(age=None), missing="drop")


def test_which_columns_have_categories() -> None:
    table = passengers().drop(columns="age").dropna()
    assert [column.categories for column in loaded(table)[0].columns] == [("f", "m"), tuple(sorted(PLACES)), ()]
    named = loaded(table, categorical=["auto", "deck"])[0].columns
    assert named[2] == Column("deck", ("1", "2", "3"))
    only = loaded(table.drop(columns="place"), categorical=["sex"])[0].columns
    assert [column.categories for column in only] == [("f", "m"), ()]
    with pytest.raises(InputError, match=r"column 'place': .* --drop place, or .* --categorical place"):
        loaded(table, categorical=["sex"])
    with pytest.raises(InputError, match="--categorical port: its columns are label, sex, place, deck"):
        loaded(table, categorical=["port"])
    many = pd.DataFrame({"label": [0, 1] * 200, "street": [f"Street {number % 101}" for number in range(400)]})
    with pytest.raises(InputError, match="'Street 0' is text, of which there are 101 different ones in 400 rows"):
        loaded(many)
    assert len(loaded(many, categorical=["street"])[0].columns[0].categories) == 101


@pytest.mark.parametrize(
    ("values", "categories"),
    [
        (pd.Categorical(["b", "a", "a", None] * 4), ("a", "b")),
        ([True, False, None, True] * 4, ("False", "True")),
        ([3, 1, 2, 1] * 4, ("1", "2", "3")),
        ([3.0, None, 2.5, 1] * 4, ("1", "2.5", "3")),
    ],
)
def test_categories_of_any_type(values: Any, categories: tuple[str, ...]) -> None:
    table = pd.DataFrame({"label": [0, 1] * 8, "x": values, "z": range(5, 21)})
    columns = loaded(table, categorical=["x"], missing="mean", valid_fraction=0.25)[0].columns
    assert columns[0].categories == categories
    features = encode(columns, table)
    np.testing.assert_array_equal(features[:, : len(categories)].sum(axis=1), table["x"].notna())
    np.testing.assert_array_equal(encode(columns, table.astype({"x": object})), features)


def test_a_model_takes_raw_rows_after_training(tmp_path: Path) -> None:
    table = passengers()
    model = trained(table, missing="mean", categorical=["auto", "deck"])
    save_model(model, tmp_path / "m.npz")
    read = load_model(tmp_path / "m.npz")
    assert read.columns == model.columns
    answers = read.predict(table)
    assert (answers == table["label"]).mean() > 0.9
    names = [column.name for column in model.columns]
    table.to_csv(tmp_path / "t.csv", index=False)
    for same in (table[table.columns[::-1]], table[names].to_numpy(), pd.read_csv(tmp_path / "t.csv")):
        np.testing.assert_array_equal(read.predict_proba(same), read.predict_proba(table))
    train, _ = loaded(table, missing="mean", categorical=["auto", "deck"])
    np.testing.assert_array_equal(read.predict(train.features).shape, train.labels.shape)


def test_a_category_that_no_row_to_train_on_has() -> None:
    table = passengers()
    table.loc[table.index[0], "sex"] = "x"
    model = trained(passengers(), missing="mean")
    with pytest.warns(UserWarning, match="column 'sex': 'x' was in no row of training, .* \\(1 row\\)"):
        features = encode(model.columns, table)
    np.testing.assert_array_equal(features[0, :2], 0)
    np.testing.assert_array_equal(features[1:, :2].sum(axis=1), 1)
    train, valid = loaded(pd.concat([passengers(), table.iloc[:1]]), missing="mean", seed=2, scale="none")
    seen = "x" in train.columns[0].categories
    assert seen != any("no row to train on has the category of 1 to validate" in note for note in train.notes)
    assert seen or (valid.features[:, :2].sum(axis=1) == 0).sum() == 1


def test_what_a_model_refuses_to_predict() -> None:
    table = passengers().drop(columns="age").dropna()
    model = trained(table)
    for column, value, message in (
        ("place", None, "row 1, column 'place': a value is missing; drop the row"),
        ("deck", None, "row 1, column 'deck': a value is missing; drop the row"),
        ("deck", "two", "row 1, column 'deck': 'two' is not a number"),
    ):
        wrong = table.astype(object)
        wrong.iloc[0, list(table.columns).index(column)] = value
        with pytest.raises(InputError, match=message):
            model.predict(wrong)


def test_a_cached_table_keeps_its_categories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passengers().to_csv(tmp_path / "t.csv", index=False)
    first = loaded(tmp_path / "t.csv", missing="mean")
    monkeypatch.setattr("ddp_numpy.data.csv.parse", None)  # nothing is parsed again
    again = loaded(tmp_path / "t.csv", missing="mean")
    for before, after in zip(first, again, strict=True):
        assert before.sha256() == after.sha256()
        assert before.columns == after.columns
    assert first[0].sha256() != loaded(passengers().replace("m", "w"), missing="mean")[0].sha256()


def test_columns_are_described() -> None:
    columns = (Column("a"), Column("b", ("x", "y")), Column("c", (), 1.5, True), Column("d", ("z",), 0.0, True))
    described = json.loads(json.dumps([column.description() for column in columns]))
    assert described[:2] == ["a", {"name": "b", "categories": ["x", "y"]}]
    assert tuple(map(Column.of, described)) == columns
    values = [np.array([5.0, 6.0]), np.array([1.0, -1.0]), np.array([np.nan, 2.0]), np.array([np.nan, 0.0])]
    np.testing.assert_array_equal(expand(columns, values, np.float32), [[5, 0, 1, 1.5, 1, 0, 1], [6, 0, 0, 2, 0, 1, 0]])
