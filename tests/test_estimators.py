"""The classifier and the regressor keep scikit-learn's conventions, and train on all ranks of an mpirun."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import run_job
from test_columns import passengers

pytest.importorskip("sklearn")

from sklearn import datasets
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

from ddp_numpy.estimators import Classifier, Regressor

NAMES = np.array(["drowned", "saved"])


@pytest.mark.parametrize("kind", [Classifier, Regressor])
def test_scikit_learns_own_checks(kind: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SkipTestWarning)
        found = check_estimator(kind(), on_fail="raise")
    assert len(found or range(40)) >= 40


def test_a_table_with_text_and_gaps() -> None:
    table = passengers().assign(label=lambda t: NAMES[t["label"]])
    model = Classifier(hidden=(8,), batch_size=8, lr=0.02, options={"missing": "mean"}).fit(table)
    assert model.classes_.tolist() == NAMES.tolist()
    assert list(model.feature_names_in_) == ["sex", "age", "place", "deck"]
    X, y = table.drop(columns="label"), table["label"]
    assert model.score(X, y) > 0.95
    np.testing.assert_array_equal(model.predict(X[X.columns[::-1]]), model.predict(table))
    np.testing.assert_array_equal(Classifier(**model.get_params()).fit(X, y).predict(X), model.predict(X))
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))


def test_a_file(tmp_path: Path) -> None:
    table = passengers()
    table.to_csv(tmp_path / "t.csv", sep=";", index=False)
    model = Classifier(hidden=(8,), batch_size=8, lr=0.02, options={"missing": "mean"})
    for source in (tmp_path / "t.csv", str(tmp_path / "t.csv")):
        answers = model.fit(source).predict(source)
        np.testing.assert_array_equal(answers, model.predict(table))
    assert (answers == table["label"]).mean() > 0.95


def test_numbers() -> None:
    table = datasets.load_diabetes(as_frame=True).frame
    model = Regressor(hidden=(16,), lr=0.01).fit(table)
    X, y = table.drop(columns="target"), table["target"]
    assert model.score(X, y) > 0.45
    assert model.predict(X).shape == (len(y),)
    assert model.n_iter_ == len(model.loss_curve_) == 50
    assert model.loss_curve_[-1] < 0.6 * model.loss_curve_[0]


def test_within_pipelines_and_searches() -> None:
    X, y = datasets.load_iris(return_X_y=True)
    scores = cross_val_score(make_pipeline(StandardScaler(), Classifier(hidden=(16,), lr=0.01)), X, y)
    assert scores.mean() > 0.93
    search = GridSearchCV(
        Classifier(hidden=(16,), epochs=20), {"lr": [1e-5, 0.01], "options": [None, {"dropout": 0.1}]}
    )
    assert search.fit(X, y).best_params_["lr"] == 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"options": {"rate": 1}}, "unknown key 'rate'"),
        ({"hidden": (0,)}, "hidden: '0' is not a list"),
        ({"options": {"early-stopping": 3}}, "what waits for a lower validation loss needs rows to validate"),
    ],
)
def test_options_that_can_not_be_are_value_errors(options: dict[str, Any], message: str) -> None:
    X, y = datasets.load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        Classifier(**options).fit(X, y)


def test_rows_that_can_not_be_predicted_are_value_errors() -> None:
    table = passengers().drop(columns="age").dropna()
    model = Classifier(hidden=(8,), epochs=1).fit(table)
    with pytest.raises(ValueError, match="the table has no column 'deck'"):
        model.predict(table.drop(columns="deck"))


def test_all_ranks_train_one_network(tmp_path: Path) -> None:
    (tmp_path / "fit.py").write_text(
        "from sklearn import datasets\n"
        "from ddp_numpy import world\n"
        "from ddp_numpy.estimators import Classifier\n"
        "X, y = datasets.load_iris(return_X_y=True)\n"
        "model = Classifier((8,), 5, 16, lr=0.01, options={'reproducible': True}).fit(X, y)\n"
        "comm = world()\n"
        "seen = comm.gather((comm.size, model.model_.digest(), model.score(X, y)))\n"
        "print(*(seen or []), sep='\\n')\n"
    )
    found = []
    for ranks in (None, 1, 3):
        job = run_job(ranks, "fit.py", cwd=tmp_path)
        assert job.status == 0, job.err
        lines = [line for line in job.out.splitlines() if line]
        assert [line.split(",")[0] for line in lines] == [f"({ranks or 1}"] * (ranks or 1)
        found += [line.split(",", 1)[1] for line in lines]
    assert len(set(found)) == 1
