"""Files as people have them: each trains as well as scikit-learn's network, or ends in one line that helps."""

import bz2
import functools
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ddp_numpy import (
    Dense,
    InputError,
    ReLU,
    Sequential,
    SingleProcess,
    Trainer,
    load_data,
    load_model,
    save_model,
)
from ddp_numpy.optim import Adam

pytest.importorskip("sklearn")

from sklearn import datasets
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

Options = dict[str, Any]
Write = Callable[[pd.DataFrame, Path], None]
SEEDS = (1, 2, 3)
WIDTH, EPOCHS, BATCH, RATE = 32, 100, 16, 0.01


@functools.cache
def frame(name: str) -> pd.DataFrame:
    """A toy set as scikit-learn gives it: the features, and the column target."""
    table: pd.DataFrame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    return table


def named(name: str, column: str) -> pd.DataFrame:
    """The set with its classes' names in a column of this name, the last."""
    names = getattr(datasets, f"load_{name}")().target_names
    return frame(name).drop(columns="target").assign(**{column: names[frame(name)["target"]]})


def first(table: pd.DataFrame, column: str, labels: Any) -> pd.DataFrame:
    """The features, behind a column of labels."""
    return pd.concat([pd.Series(labels, name=column), table.drop(columns="target")], axis=1)


def plain(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)


def packed(pack: Callable[[bytes], bytes]) -> Write:
    return lambda table, path: path.write_bytes(pack(table.to_csv(index=False).encode())) and None


def zstd(text: bytes) -> bytes:
    return bytes(pytest.importorskip("zstandard").compress(text))


def csv(**options: Any) -> Write:
    return lambda table, path: table.to_csv(path, **({"index": False} | options))


def kaggle_iris() -> pd.DataFrame:
    table = named("iris", "Species")
    table.insert(0, "Id", range(1, len(table) + 1))
    return table


def kaggle_cancer() -> pd.DataFrame:
    table = frame("breast_cancer").drop(columns="target")
    table.insert(0, "diagnosis", np.where(frame("breast_cancer")["target"] == 0, "M", "B"))
    table.insert(0, "id", np.random.default_rng(1).permutation(10**7)[: len(table)])
    return table.assign(**{"Unnamed: 32": None})


def with_places() -> pd.DataFrame:
    """A column that tells the classes apart better than chance does."""
    rng, target = np.random.default_rng(2), frame("wine")["target"]
    places = np.array(["Barolo", "Grignolino", "Barbera"])
    return frame("wine").assign(
        place=np.where(rng.random(len(target)) < 0.5, places[target], rng.choice(places, len(target)))
    )


def with_gaps() -> pd.DataFrame:
    """One value in fifty is missing."""
    table, features = frame("wine").copy(), frame("wine").columns[:-1]
    gaps = np.random.default_rng(3).random((len(table), len(features))) < 0.02
    table[features] = table[features].mask(gaps)
    return table


def spoilt(row: int, column: str, value: Any) -> pd.DataFrame:
    table = frame("iris").astype(object)
    table.loc[row, column] = value
    return table


IRIS, WINE, CANCER, DIGITS = (functools.partial(frame, name) for name in ("iris", "wine", "breast_cancer", "digits"))
Table = Callable[[], pd.DataFrame]
TRAINED: dict[str, tuple[Table, str, Write, Options]] = {
    "iris": (IRIS, "t.csv", plain, {}),
    "wine, of large and small numbers": (WINE, "t.csv", plain, {}),
    "breast cancer": (CANCER, "t.csv", plain, {}),
    "digits of 0..16": (DIGITS, "t.csv", plain, {}),
    "the index that pandas writes": (IRIS, "t.csv", csv(index=True), {}),
    "an index with a name": (IRIS, "t.csv", csv(index=True, index_label="row"), {}),
    "labels in the first column": (lambda: first(WINE(), "cultivar", WINE()["target"]), "t.csv", plain, {}),
    "classes 1, 2, 3": (lambda: first(WINE(), "Class", WINE()["target"] + 1), "t.csv", plain, {}),
    "classes with gaps": (lambda: first(IRIS(), "kind", IRIS()["target"] * 10 - 5), "t.csv", plain, {}),
    "classes 1.0, 2.0": (lambda: first(IRIS(), "kind", IRIS()["target"] + 1.0), "t.csv", plain, {}),
    "true and false": (lambda: first(CANCER(), "malignant", CANCER()["target"] == 0), "t.csv", plain, {}),
    "names": (lambda: first(IRIS(), "species", named("iris", "s")["s"]), "t.csv", plain, {}),
    "names in the last column": (lambda: named("iris", "species"), "t.csv", plain, {"label_column": "species"}),
    "a column called Target": (lambda: IRIS().rename(columns={"target": "Target"}), "t.csv", plain, {}),
    "an Id": (kaggle_iris, "t.csv", plain, {"label_column": "Species"}),
    "an id to drop and an empty column": (kaggle_cancer, "t.csv", plain, {"label_column": "diagnosis", "drop": ["id"]}),
    "tabs": (IRIS, "t.tsv", csv(sep="\t"), {}),
    "tabs in a .csv": (IRIS, "t.csv", csv(sep="\t"), {}),
    "semicolons": (WINE, "t.csv", csv(sep=";"), {}),
    "semicolons and decimal commas": (WINE, "t.csv", csv(sep=";", decimal=","), {}),
    "bars": (WINE, "t.txt", csv(sep="|"), {}),
    "quotes": (WINE, "t.csv", csv(quoting=1), {}),
    "line ends of Windows": (WINE, "t.csv", csv(lineterminator="\r\n"), {}),
    "a byte order mark": (IRIS, "t.csv", csv(encoding="utf-8-sig"), {}),
    "Latin-1": (lambda: IRIS().rename(columns={"sepal length (cm)": "Größe"}), "t.csv", csv(encoding="latin-1"),
                {"encoding": "latin-1"}),
    "UTF-16": (IRIS, "t.csv", csv(encoding="utf-16"), {"encoding": "utf-16"}),
    "no header": (lambda: first(WINE(), "Class", WINE()["target"] + 1), "t.csv", csv(header=False), {"header": False}),
    "no header, label last": (lambda: named("iris", "s"), "t.csv", csv(header=False),
                              {"header": False, "label_column": "5"}),
    "columns called 0, 1, 2": (lambda: IRIS().set_axis([*map(str, range(4)), "label"], axis=1), "t.csv", plain, {}),
    "gzip": (IRIS, "t.csv.gz", packed(gzip.compress), {}),
    "bzip2": (IRIS, "t.csv.bz2", packed(bz2.compress), {}),
    "xz": (IRIS, "t.csv.xz", packed(lzma.compress), {}),
    "spaces, as numpy.savetxt writes": (lambda: first(WINE(), "Class", WINE()["target"]), "t.txt",
                                        csv(sep=" ", header=False), {"header": False}),
    "zstandard": (IRIS, "t.csv.zst", packed(zstd), {}),
    "a column of categories": (with_places, "t.csv", plain, {}),
    "missing values, with means for them": (with_gaps, "t.csv", plain, {"missing": "mean"}),
    "missing values, without their rows": (with_gaps, "t.csv", plain, {"missing": "drop"}),
    "npz": (DIGITS, "t.npz", lambda table, path: np.savez(
        path, X=table.drop(columns="target").to_numpy(), y=table["target"].to_numpy()), {}),
    "npz with names": (WINE, "t.npz", lambda table, path: np.savez(
        path, X=table.drop(columns="target").to_numpy(), y=np.array(["a", "b", "c"])[table["target"]]), {}),
}  # fmt: skip


def ours(path: Path, seed: int, options: Options) -> tuple[float, float]:
    """The accuracies of this package's network and of scikit-learn's on the same rows."""
    train, valid = load_data(str(path), SingleProcess(), seed=seed, valid_fraction=0.3, **options)
    model = Sequential(Dense(WIDTH), ReLU(), Dense(train.classes))
    trainer = Trainer(model, Adam(lr=RATE), SingleProcess(), batch_size=BATCH, seed=seed)
    accuracy = trainer.train(train, valid, EPOCHS)[-1].valid_accuracy
    network = MLPClassifier((WIDTH,), batch_size=BATCH, learning_rate_init=RATE, max_iter=EPOCHS, random_state=seed)
    theirs = make_pipeline(StandardScaler(), network).fit(train.features, train.labels)
    return accuracy, theirs.score(valid.features, valid.labels)


@pytest.mark.filterwarnings("ignore", category=ConvergenceWarning)
@pytest.mark.parametrize("name", TRAINED)
def test_a_file_trains_as_well_as_elsewhere(name: str, tmp_path: Path) -> None:
    table, file, write, options = TRAINED[name]
    write(table(), tmp_path / file)
    found = np.mean([ours(tmp_path / file, seed, options) for seed in SEEDS], axis=0)
    assert found[0] >= found[1] - 0.01


REFUSED: dict[str, tuple[Table, Write, Options, str]] = {
    "names in the last column": (
        lambda: named("iris", "species"), plain, {},
        "t.csv: which column is the label? None is called label, target or class, and the first, 'sepal length (cm)', "
        "has fractions, as measurements have; its columns are sepal length (cm), sepal width (cm), petal length (cm), "
        "petal width (cm), species: choose with --label-column",
    ),
    "an Id": (
        kaggle_iris, plain, {},
        "t.csv: which column is the label? None is called label, target or class, and the first, 'Id', has another "
        "value in each row, as an index has; its columns are Id, sepal length (cm), sepal width (cm), petal length "
        "(cm), petal width (cm), Species: choose with --label-column",
    ),
    "a column that is not there": (
        lambda: named("iris", "species"), plain, {"label_column": "Species"},
        "t.csv: no label column 'Species'; its columns are sepal length (cm), sepal width (cm), petal length (cm), "
        "petal width (cm), species: choose with --label-column",
    ),
    "no header": (
        lambda: named("iris", "species"), csv(header=False), {},
        "t.csv: its first line holds numbers; add a header line that names the columns, or give --no-header",
    ),
    "Latin-1": (
        lambda: IRIS().rename(columns={"sepal length (cm)": "Größe"}), csv(encoding="latin-1"), {},
        "t.csv: not a text file in UTF-8; of an older program, --encoding latin-1 may read it; name packed "
        "files .csv.gz, .csv.bz2, .csv.xz or .csv.zst",
    ),
    "names of people among features": (
        lambda: IRIS().assign(**{"by whom": [f"Person {number}" for number in range(150)]}), plain, {},
        "t.csv: row 1, column 'by whom': 'Person 0' is text, of which there are 150 different ones in 150 rows; leave "
        "the column out with --drop 'by whom'",
    ),
    "text, if no column may have categories": (
        lambda: IRIS().assign(place="Oslo"), plain, {"categorical": ["none"]},
        "t.csv: row 1, column 'place': 'Oslo' is no number, and most others are none; leave the column out with --drop "
        "place, or take it for categories with --categorical place",
    ),
    "a date": (
        lambda: IRIS().assign(day="2026-11-27"), plain, {},
        "t.csv: row 1, column 'day': '2026-11-27' is a date, and no number; leave the column out with --drop day",
    ),
    "a slip of the pen": (
        lambda: spoilt(6, "petal width (cm)", "0,2"), plain, {},
        "t.csv: row 7, column 'petal width (cm)': '0,2' is not a number; correct or drop the row",
    ),
    "a missing value": (
        lambda: spoilt(6, "petal width (cm)", None), plain, {},
        "t.csv: row 7, column 'petal width (cm)': a value is missing; correct or drop the row, or give --missing mean "
        "or --missing drop",
    ),
    "a missing label": (
        lambda: spoilt(6, "target", None), plain, {},
        "t.csv: row 7, column 'target': the label is missing; drop the row, or all such rows with --missing drop",
    ),
    "a measurement as the label": (
        WINE, plain, {"label_column": "alcohol"},
        "t.csv: row 1: label column 'alcohol' is 14.23, which is no class; predict a number with --task regress, or "
        "choose another column with --label-column",
    ),
    "nothing but an index": (
        lambda: pd.DataFrame({"label": [0, 1] * 10, "n": range(20)}), plain, {},
        "t.csv: its only feature, 'n', counts the rows; others are needed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_is_refused_with_advice(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, write, options, line = REFUSED[name]
    monkeypatch.chdir(tmp_path)
    write(table(), Path("t.csv"))
    with pytest.raises(InputError) as raised:
        load_data("t.csv", SingleProcess(), **options)
    assert str(raised.value) == line


def test_a_table_in_memory_trains_like_its_file(tmp_path: Path) -> None:
    table = named("iris", "species")
    plain(table, tmp_path / "t.csv")
    features, species = table.drop(columns="species"), table["species"]
    options: Options = {"label_column": "species"}
    from_file = load_data(str(tmp_path / "t.csv"), SingleProcess(), **options)[0]
    for source in (table, tmp_path / "t.csv", (features, species), (features.to_numpy(), species.to_numpy())):
        train, _ = load_data(source, SingleProcess(), **options)
        assert train.sha256() == from_file.sha256()
        assert train.columns in (from_file.columns, ())


def test_a_model_finds_its_columns_by_name_and_answers_in_names(tmp_path: Path) -> None:
    table = kaggle_iris()
    train, valid = load_data(table, SingleProcess(), label_column="Species")
    model = Sequential(Dense(8), ReLU(), Dense(train.classes))
    Trainer(model, Adam(lr=RATE), SingleProcess(), batch_size=BATCH).train(train, valid, 60)
    save_model(model, tmp_path / "m.npz")
    read = load_model(tmp_path / "m.npz")
    answers = read.predict(table)
    assert (answers == table["Species"]).mean() > 0.9
    for same in (table[table.columns[::-1]], table.drop(columns=["Id", "Species"]), table.iloc[:, 1:5].to_numpy()):
        np.testing.assert_array_equal(read.predict(same), answers)
    with pytest.raises(InputError, match="the table has no column 'petal width \\(cm\\)', which the model was trained"):
        read.predict(table.drop(columns="petal width (cm)"))
