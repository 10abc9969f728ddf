"""How good a network is on labelled rows: figures as others compute them, the same on any number of ranks."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from jobs import openmpi_python, run_job

from ddp_numpy import Dense, InputError, Sequential, SingleProcess, Trainer, load_data, load_model, save_model
from ddp_numpy.data import Part
from ddp_numpy.deploy.evaluation import MISTAKES, Evaluation, Judged, mean_of
from ddp_numpy.optim import Adam

COLOURS = np.array(["blue", "green", "red"])


def coloured(rows: int) -> pd.DataFrame:
    """Rows of three classes that overlap, of which some lack a value."""
    rng = np.random.default_rng(7)
    kinds = rng.integers(0, 3, rows)
    table = pd.DataFrame({"a": kinds + rng.normal(0, 0.5, rows), "b": rng.normal(0, 1, rows), "colour": COLOURS[kinds]})
    table.loc[5::50, "b"] = np.nan
    return table.round(4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of colours, m.npz, one of numbers, n.npz, and tables for both."""
    folder = tmp_path_factory.mktemp("colours")
    table = coloured(1000)
    table.to_csv(folder / "colours.csv", index=False)
    table.dropna().to_csv(folder / "whole.csv", index=False)
    for name, columns, options in (
        ("m.npz", ["a", "b", "colour"], {"label_column": "colour"}),
        ("n.npz", ["a", "b"], {"label_column": "a", "task": "regress"}),
    ):
        train, _ = load_data(table[columns].dropna(), SingleProcess(), **options)
        model = Sequential(Dense(train.outputs))
        Trainer(model, Adam(lr=0.02), SingleProcess(), batch_size=50).train(train, None, 5)
        save_model(model, folder / name)
    return folder


def evaluated(folder: Path, *options: str, ranks: int | None = None) -> tuple[str, dict]:
    """What the command prints, and the figures that it writes."""
    job = run_job(ranks, "-m", "ddp_numpy.evaluate", "--json", "e.json", *options, cwd=folder)
    assert job.status == 0, job.err
    return job.out, json.loads((folder / "e.json").read_text())


def test_figures_are_those_of_others(folder: Path) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    out, found = evaluated(folder, "--weights", "m.npz", "--data", "whole.csv")
    table, model = pd.read_csv(folder / "whole.csv"), load_model(folder / "m.npz")
    predicted, shares = model.predict(table), model.predict_proba(table)
    *expected, rows = metrics.precision_recall_fscore_support(table.colour, predicted)
    for place, one in enumerate(found["classes"]):
        assert one["name"] == COLOURS[place]
        values = [one["precision"], one["recall"], one["f1"]]
        np.testing.assert_allclose(values, [row[place] for row in expected], rtol=1e-12)
        assert one["rows"] == rows[place]
    assert found["confusion"] == metrics.confusion_matrix(table.colour, predicted).tolist()
    assert found["accuracy"] == metrics.accuracy_score(table.colour, predicted)
    assert found["loss"] == pytest.approx(metrics.log_loss(table.colour, shares), rel=1e-5)
    assert f"accuracy {found['accuracy']:.2%}" in out
    assert "green" in out


def test_figures_without_other_libraries(folder: Path) -> None:
    _, found = evaluated(folder, "--weights", "m.npz", "--data", "whole.csv")
    table, model = pd.read_csv(folder / "whole.csv"), load_model(folder / "m.npz")
    confidence, right = model.predict_proba(table).max(axis=1), model.predict(table) == table.colour.to_numpy()
    error = 0.0
    for least in range(15):
        within = (confidence > least / 15) & (confidence <= (least + 1) / 15)
        if within.any():
            error += abs(confidence[within].mean(dtype=np.float64) - right[within].mean()) * within.mean()
    assert found["calibration_error"] == pytest.approx(error, rel=1e-6)
    assert sum(one["rows"] for one in found["calibration"]) == len(table)
    least, most = found["accuracy_interval"]
    assert least < right.mean() < most


def test_any_number_of_ranks_says_the_same(folder: Path) -> None:
    big = pd.concat([coloured(1000)] * 250).assign(note="-" * 60)  # several pieces
    big.to_csv(folder / "many.csv", index=False)
    assert (folder / "many.csv").stat().st_size > 2**24
    options = ("--weights", "m.npz", "--data", "many.csv", "--missing", "drop")
    expected = evaluated(folder, *options)
    page = folder / "e.html"
    assert evaluated(folder, *options, "--out", "e.html", ranks=3) == (expected[0] + "page: e.html\n", expected[1])
    assert expected[1]["rows"] == 245_000
    worst = page.read_text().split("The worst mistakes")[1]
    assert f"<td>{1 + int(np.argmax(_losses(folder))):,}</td>" in worst  # numbers are those of all rows


def _losses(folder: Path) -> np.ndarray:
    """Of the rows of many.csv, 0 of those that lack a value."""
    table, model = coloured(1000), load_model(folder / "m.npz")
    shares = model.predict_proba(table.fillna(0))
    losses = -np.log(shares[np.arange(1000), np.searchsorted(COLOURS, table.colour)])
    return np.where(table.b.isna() | (shares.argmax(axis=1) == np.searchsorted(COLOURS, table.colour)), 0, losses)


def test_numbers_are_judged_by_their_errors(folder: Path) -> None:
    out, found = evaluated(folder, "--weights", "n.npz", "--data", "whole.csv", "--out", "n.html")
    table = pd.read_csv(folder / "whole.csv")
    error = load_model(folder / "n.npz").predict(table) - table.a
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()), rel=1e-6)
    assert found["mae"] == pytest.approx(np.abs(error).mean(), rel=1e-6)
    assert found["r2"] == pytest.approx(1 - (error**2).mean() / table.a.var(ddof=0), rel=1e-6)
    assert "R²" in out
    page = (folder / "n.html").read_text()
    assert f"<td>{1 + int(np.argmax(np.abs(error))):,}</td>" in page.split("The worst mistakes")[1]


def test_the_digits_are_shown_on_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    train, valid = load_data("digits", SingleProcess())
    model = Sequential(Dense(10))
    trainer = Trainer(model, Adam(), SingleProcess())
    (epoch,) = trainer.train(train, valid, 1)
    save_model(model, tmp_path / "m.npz")
    _, found = evaluated(tmp_path, "--weights", "m.npz", "--data", "digits", "--out", "e.html")
    assert found["accuracy"] == epoch.valid_accuracy
    assert found["loss"] == pytest.approx(epoch.valid_loss, rel=1e-5)
    page = (tmp_path / "e.html").read_text()
    assert page.count("<figure>") == 3
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="data:image/svg+xml' in page


def test_only_the_worst_mistakes_are_kept_in_their_order() -> None:
    model = Sequential(Dense(2))
    model.build((1,))
    model.params[...] = (1, -1, 0, 0)  # of x, the logits are x and -x
    save_path = []
    for first in (0, 100):
        x = np.arange(first, first + 100, dtype=float)[:, np.newaxis]
        save_path.append(_judged(model, x, np.ones(100, int)))
    found = Evaluation.of(save_path, model)
    assert [one.row for one in found.mistakes] == [200 - place for place in range(MISTAKES)]
    assert found.accuracy == 0.005 or found.accuracy == 0.0
    assert mean_of(found.classes).rows == 200


def _judged(model: Sequential, X: np.ndarray, y: np.ndarray) -> Judged:
    from ddp_numpy.base.rows import RowNumbers
    from ddp_numpy.data import TableOptions
    from ddp_numpy.deploy.evaluation import judge
    from ddp_numpy.deploy.inputs import Inputs

    return judge(Part(X, Path("x"), RowNumbers(0), y), Inputs(model, TableOptions()), model)


def test_a_page_of_classes_with_odd_names(tmp_path: Path) -> None:
    names = ["$x", "a$b$c", r"$\frac{", "<b>bold</b>", "日本語", "a very long name of a class that goes on"]
    rng = np.random.default_rng(0)
    kinds = np.arange(120) % len(names)
    table = pd.DataFrame(
        {"a": kinds + rng.normal(0, 2, 120), "b": rng.normal(0, 1, 120), "kind": np.array(names)[kinds]}
    )
    table.to_csv(tmp_path / "t.csv", index=False)
    train, _ = load_data(str(tmp_path / "t.csv"), SingleProcess(), label_column="kind")
    model = Sequential(Dense(len(names)))
    Trainer(model, Adam(), SingleProcess()).train(train, None, 1)
    save_model(model, tmp_path / "m.npz")
    job = run_job(
        None, "-m", "ddp_numpy.evaluate", "--weights", "m.npz", "--data", "t.csv", "--out", "e.html", cwd=tmp_path
    )
    assert (job.status, job.err) == (0, "")
    page = (tmp_path / "e.html").read_text()
    assert "<b>bold" not in page
    assert "日本語" in page


def test_what_can_not_be_evaluated_is_refused(folder: Path) -> None:
    table = pd.read_csv(folder / "whole.csv")
    table.drop(columns="colour").to_csv(folder / "bare.csv", index=False)
    table.assign(colour="pink").to_csv(folder / "pink.csv", index=False)
    table.assign(b=np.nan).to_csv(folder / "holes.csv", index=False)
    for data, options, words in (
        ("bare.csv", (), "bare.csv: has no column 'colour' with labels; choose one with --label-column"),
        ("pink.csv", (), "pink.csv: row 1: label pink is none of the classes to train on, blue, green, red"),
        ("colours.csv", (), "colours.csv: row 6, column 'b': a value is missing; correct or drop the row"),
        ("holes.csv", ("--missing", "drop"), "there is no row to evaluate the model on: a value is missing in each"),
        ("whole.csv", ("--label-column", "colours"), "whole.csv: has no column 'colours' with labels"),
        ("whole.csv", ("--json", "no/e.json"), "no/e.json: can't write: No such file or directory"),
    ):
        command = ("-m", "ddp_numpy.evaluate", "--weights", "m.npz", "--data", data, *options)
        job = run_job(2 if data == "pink.csv" else None, *command, cwd=folder)
        assert job.status == 2
        (line,) = job.error_lines
        assert words in line
    command = ("-m", "ddp_numpy.evaluate", "--weights", "m.npz", "--data", "whole.csv", "--out", "e.html")
    job = run_job(None, *command, cwd=folder, python=openmpi_python())
    assert (job.status, job.error_lines) == (
        2, ["error: --out: a page needs matplotlib; install it with: pip install matplotlib"],
    )  # fmt: skip
    with pytest.raises(InputError, match="there is no row"):
        Evaluation.of([_judged(load_model(folder / "m.npz"), np.zeros((0, 2)), np.zeros(0, int))],
                      load_model(folder / "m.npz"))  # fmt: skip
