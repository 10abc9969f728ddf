"""Predictions of trained networks: of tables, arrays and pictures, the same on any number of ranks."""

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs import run_job

from ddp_numpy import Dense, InputError, ReLU, Sequential, SingleProcess, Trainer, load_data, load_model, save_model
from ddp_numpy.data import Part, Stream, TableOptions
from ddp_numpy.deploy.inputs import Inputs
from ddp_numpy.optim import Adam

FLOWERS = ("iris", "rose", 'a "tulip", red')


def people(rows: int, seed: int = 0) -> pd.DataFrame:
    """A table of everyday columns: numbers, categories of which some look like numbers, gaps, and a label of text."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, rows)
    return pd.DataFrame(
        {
            "who": [f"p{number:05}" for number in range(rows)],
            "size": np.where(rng.random(rows) < 0.1, np.nan, (kinds + rng.normal(0, 0.2, rows)).round(3)),
            "zone": np.array(["03", "7", "A1"])[kinds],
            "flower": np.array(FLOWERS)[kinds],
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of people, m.npz, their table, and one without labels."""
    folder = tmp_path_factory.mktemp("people")
    table = people(300)
    table.to_csv(folder / "train.csv", index=False)
    table.drop(columns="flower").to_csv(folder / "test.csv", index=False)
    options = {"label_column": "flower", "drop": ["who"], "missing": "mean", "categorical": ["auto", "zone"]}
    train, valid = load_data(str(folder / "train.csv"), SingleProcess(), **options)
    model = Sequential(Dense(8), ReLU(), Dense(3))
    Trainer(model, Adam(lr=0.05), SingleProcess(), batch_size=32).train(train, valid, 5)
    save_model(model, folder / "m.npz")
    return folder


def predicted(folder: Path, *options: str, ranks: int | None = None, data: str = "test.csv") -> str:
    """The lines that the command writes to a file."""
    command = ("-m", "ddp_numpy.predict", "--weights", "m.npz", "--data", data, "--out", "out.csv", *options)
    job = run_job(ranks, *command, cwd=folder)
    assert job.status == 0, job.err
    return (folder / "out.csv").read_text()


def refusal(folder: Path, *options: str, ranks: int | None = None) -> str:
    """The one line with which the command ends; nothing is written."""
    (folder / "none.csv").unlink(missing_ok=True)
    job = run_job(ranks, "-m", "ddp_numpy.predict", "--out", "none.csv", *options, cwd=folder)
    assert (job.status, len(job.error_lines)) == (2, 1), (job.status, job.err)
    assert not (folder / "none.csv").exists()
    assert not list(folder.glob(".ddp_numpy*"))
    return job.error_lines[0]


def test_classes_in_their_own_words_and_in_the_order_of_the_rows(folder: Path) -> None:
    read = pd.read_csv(folder / "test.csv", dtype={"zone": str})
    expected = load_model(folder / "m.npz").predict(read)
    assert (expected == people(300).flower).mean() > 0.95
    text = predicted(folder)
    assert text.startswith("ImageId,Label\n1,")
    assert ',"a ""tulip"", red"\n' in text
    found = pd.read_csv(folder / "out.csv")
    assert found.ImageId.tolist() == list(range(1, 301))
    assert found.Label.tolist() == expected.tolist()
    text = predicted(folder, "--id", "who", "--label", "flower")
    assert text.splitlines()[:2] == ["who,flower", 'p00000,"a ""tulip"", red"']


def test_probabilities_have_a_column_for_each_class(folder: Path) -> None:
    predicted(folder, "--probabilities")
    found = pd.read_csv(folder / "out.csv", index_col="ImageId")
    assert tuple(found.columns) == tuple(sorted(FLOWERS))
    expected = load_model(folder / "m.npz").predict_proba(pd.read_csv(folder / "test.csv", dtype={"zone": str}))
    np.testing.assert_allclose(found.to_numpy(), expected, atol=1e-6)


def test_a_labelled_table_and_other_orders_of_columns_give_the_same(folder: Path) -> None:
    expected = predicted(folder)
    assert predicted(folder, data="train.csv") == expected
    turned = people(300)[["flower", "zone", "who", "size"]]
    turned.to_csv(folder / "turned.tsv", index=False, sep="\t")
    assert predicted(folder, data="turned.tsv") == expected
    with gzip.open(folder / "packed.csv.gz", "wt") as file:
        file.write((folder / "test.csv").read_text())
    assert predicted(folder, data="packed.csv.gz") == expected
    turned.to_parquet(folder / "t.parquet")
    assert predicted(folder, data="t.parquet") == expected
    turned.to_feather(folder / "t.feather")
    assert predicted(folder, data="t.feather") == expected


def test_without_a_file_to_write_lines_are_printed(folder: Path) -> None:
    job = run_job(2, "-m", "ddp_numpy.predict", "--weights", "m.npz", "--data", "test.csv", cwd=folder)
    assert (job.status, job.out) == (0, predicted(folder))


def test_a_category_that_training_never_saw_is_told_once(folder: Path) -> None:
    people(300).assign(zone="Z9").to_csv(folder / "new.csv", index=False)
    job = run_job(2, "-m", "ddp_numpy.predict", "--weights", "m.npz", "--data", "new.csv", "--out", "o.csv", cwd=folder)
    assert job.status == 0, job.err
    assert job.err.splitlines() == [
        "warning: new.csv: column 'zone': 'Z9' was in no row of training, and is taken for none of its categories "
        "(300 rows)"
    ]


@pytest.fixture(scope="module")
def many(folder: Path) -> tuple[str, ...]:
    """Tables of the same rows, of several pieces; in the second one those have quotes."""
    rows = people(150_000).assign(note="-" * 100)
    rows.drop(columns="flower").to_csv(folder / "many.csv", index=False)
    rows.to_csv(folder / "many_quoted.csv", index=False)
    rows.drop(columns="flower").to_parquet(folder / "many.parquet", row_group_size=60_000)
    assert (folder / "many.csv").stat().st_size > 2**24
    return "many.csv", "many_quoted.csv", "many.parquet"


def test_any_number_of_ranks_predicts_the_same(folder: Path, many: tuple[str, ...]) -> None:
    expected = predicted(folder, data=many[0])
    assert predicted(folder, ranks=2, data=many[0]) == expected
    for data in many:
        assert predicted(folder, ranks=3, data=data) == expected


def test_rows_are_read_in_their_order_where_quotes_begin_late(tmp_path: Path) -> None:
    """The first pieces of such a file are read where they lie, and the rest from its first row on."""
    lines = [f"{number},{number % 7}" for number in range(3_000_000)]
    lines[-5] = f'"{2_999_995}",3'
    (tmp_path / "late.csv").write_text("\n".join(["a,b", *lines]) + "\n")
    stream = Stream(str(tmp_path / "late.csv"), TableOptions(labelled=False), SingleProcess())

    def work(part: Part) -> list[int]:
        assert part.numbers[0] == part.rows["a"].iloc[0] + 1
        return part.rows["a"].tolist()

    assert [number for part in stream.map(work) for number in part] == list(range(3_000_000))


@pytest.mark.parametrize("ranks", [None, 3])
def test_bad_rows_are_named_by_their_number_in_the_file(ranks: int | None, folder: Path) -> None:
    table = people(150_000).drop(columns="flower").assign(note="-" * 100)
    table["size"] = table["size"].astype(object)
    table.loc[149_000, "size"] = "tall"
    table.to_csv(folder / "bad.csv", index=False)
    assert (folder / "bad.csv").stat().st_size > 2**24
    line = refusal(folder, "--weights", "m.npz", "--data", "bad.csv", ranks=ranks)
    assert "bad.csv: row 149001, column 'size': 'tall' is not a number; correct or drop the row" in line


def show(weights: Path, data: Path | str) -> None:
    """Take all rows through the model."""
    inputs = Inputs(load_model(weights), TableOptions(labelled=False))
    for _ in inputs.open(str(data), SingleProcess()).map(lambda part: inputs.logits(inputs.rows(part))):
        pass


def test_what_can_not_be_predicted_is_refused(folder: Path) -> None:
    rows = np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]])
    model = Sequential(Dense(2))
    model.build((2,))
    save_model(model, folder / "plain.npz")
    np.savez(folder / "x.npz", X=rows)
    np.savez(folder / "number.npz", X=np.array(1.0))
    (folder / "short.csv").write_text("a,b\n1,2\n3\n5,6\n")
    (folder / "wide.csv").write_text("a,b\n1,2\n3,4,5\n")
    (folder / "empty.csv").write_text("")
    (folder / "not.npz").write_bytes(b"no archive")
    people(9)[["who", "size"]].to_csv(folder / "fewer.csv", index=False)
    for weights, data, words in (
        ("m.npz", "fewer.csv", "fewer.csv: has no column 'zone', which the model was trained on"),
        ("plain.npz", "x.npz", "x.npz: row 2, column 2: a value is missing; correct or drop the row"),
        ("plain.npz", "number.npz", "number.npz: X () and y () must have the shapes (n, …) and (n,)"),
        ("plain.npz", "short.csv", "short.csv: row 2, column 2: a value is missing; correct or drop the row"),
        ("plain.npz", "wide.csv", "wide.csv: not a CSV file: "),
        ("plain.npz", "test.csv", "test.csv: its rows have 3 features, and the model takes 2"),
        ("plain.npz", "empty.csv", "empty.csv: the file is empty"),
        ("plain.npz", "gone.csv", "gone.csv: no such file or folder"),
        ("plain.npz", "-", "-: rows can't come from standard input"),
        ("not.npz", "short.csv", "not.npz: damaged, or not a model or checkpoint of this package"),
        ("test.csv", "short.csv", "test.csv: damaged, or not a model"),
    ):
        with pytest.raises(InputError, match=re.escape(words)):
            show(folder / weights, folder / data if data != "-" else data)
    assert refusal(folder, "--weights", ".", "--data", "short.csv").startswith("error: .: a folder without a model.npz")


def test_a_disk_that_is_full_leaves_nothing(folder: Path, many: tuple[str, ...], small_disk: Path) -> None:
    job = run_job(
        2, "-m", "ddp_numpy.predict", "--weights", "m.npz", "--data", folder / many[0], "--out",
        small_disk / "out.csv", cwd=folder,
    )  # fmt: skip
    assert job.status == 2
    assert "No space left on device" in job.err
    assert not list(small_disk.iterdir())


def test_numbers_are_predicted_as_they_were_learnt(tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 200)
    pd.DataFrame({"x": x, "y": 1e6 + 3e5 * x}).to_csv(tmp_path / "line.csv", index=False)
    pd.DataFrame({"x": [0.5]}).to_csv(tmp_path / "one.csv", index=False)  # a table of one column
    train, _ = load_data(str(tmp_path / "line.csv"), SingleProcess(), label_column="y", task="regress")
    model = Sequential(Dense(1))
    Trainer(model, Adam(lr=0.05), SingleProcess(), batch_size=20).train(train, None, 40)
    save_model(model, tmp_path / "m.npz")
    name, value = predicted(tmp_path, "--label", "y", data="one.csv").split()
    assert name == "ImageId,y"
    assert float(value.removeprefix("1,")) == pytest.approx(1.15e6, rel=0.01)
    line = refusal(tmp_path, "--weights", "m.npz", "--data", "one.csv", "--probabilities")
    assert "--probabilities: the model of m.npz predicts numbers, not classes" in line


def test_rows_without_a_header_line_may_lack_the_labels(tmp_path: Path) -> None:
    """Their columns then have other numbers than in the rows that were trained on."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3))
    y = (X[:, 0] > 0).astype(int)
    np.savetxt(tmp_path / "train.csv", np.c_[y, X], delimiter=",", fmt=["%d", "%.5f", "%.5f", "%.5f"])
    np.savetxt(tmp_path / "test.csv", X, delimiter=",", fmt="%.5f")
    train, _ = load_data(str(tmp_path / "train.csv"), SingleProcess(), header=False, label_column="1")
    model = Sequential(Dense(2))
    Trainer(model, Adam(lr=0.05), SingleProcess(), batch_size=20).train(train, None, 10)
    save_model(model, tmp_path / "m.npz")
    expected = predicted(tmp_path, "--no-header", data="train.csv")
    assert predicted(tmp_path, "--no-header") == expected
    assert (pd.read_csv(tmp_path / "out.csv").Label == y).mean() > 0.95
