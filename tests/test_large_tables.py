"""A table whose features stay in a file is the same table as one in memory."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs import run_job

from ddp_numpy import InputError, SingleProcess, load_data, load_model
from ddp_numpy.data import Dataset, Reader, load
from ddp_numpy.data.mapped import MappedRows

ROWS = 400
RNG = np.random.default_rng(8)
LABELS = RNG.integers(0, 3, ROWS)
BYTES = pd.DataFrame({"label": LABELS} | {f"x{i}": RNG.integers(0, 256, ROWS) for i in range(5)})
NUMBERS = pd.DataFrame({"label": LABELS} | {f"x{i}": RNG.normal(0, 10**i, ROWS) for i in range(5)})
MIXED = NUMBERS.assign(
    sex=RNG.choice(["female", "male"], ROWS), deck=RNG.choice(list("ABCDEFG"), ROWS), alive=RNG.random(ROWS) < 0.5
)
GAPS = MIXED.mask(RNG.random(MIXED.shape) < 0.05).assign(label=LABELS)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddp_numpy.data.table_pieces._PIECE_BYTES", 2000)


def changed(table: pd.DataFrame, row: int, column: str, value: Any) -> pd.DataFrame:
    table = table.astype({column: object}) if isinstance(value, str) else table.copy()
    table.loc[row, column] = value
    return table


def parts(table: pd.DataFrame, folder: Path) -> Path:
    (folder / "parts").mkdir()
    table[:150].to_csv(folder / "parts" / "a.csv", index=False)
    table[150:].iloc[:, ::-1].to_csv(folder / "parts" / "b.csv", index=False)
    return folder / "parts"


def text(table: pd.DataFrame, folder: Path, name: str = "t.csv", **options: Any) -> Path:
    table.to_csv(folder / name, **{"index": False} | options)
    return folder / name


def with_lines(change: Callable[[str], str]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = text(NUMBERS, folder)
        path.write_bytes(change(path.read_text()).encode())
        return path

    return write


TABLES: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "bytes": (lambda folder: text(BYTES, folder), {}),
    "a larger number in the last row": (lambda folder: text(changed(BYTES, ROWS - 1, "x3", 256), folder), {}),
    "fractions": (lambda folder: text(NUMBERS, folder), {}),
    "times in seconds": (lambda folder: text(BYTES.assign(x0=1.7e9 + np.arange(ROWS) * 3), folder), {}),
    "one time far from the others": (
        lambda folder: text(changed(BYTES.assign(x0=1.7e9 + np.arange(ROWS) * 3), 211, "x0", 0), folder),
        {},
    ),
    "an index": (lambda folder: text(NUMBERS, folder, index=True), {}),
    "a column that counts": (lambda folder: text(NUMBERS.assign(id=np.arange(ROWS) + 1), folder), {}),
    "a column that stops counting": (
        lambda folder: text(changed(NUMBERS.assign(id=np.arange(ROWS) + 1), 177, "id", 7), folder),
        {},
    ),
    "categories": (lambda folder: text(MIXED, folder), {}),
    "a category in one row": (lambda folder: text(changed(MIXED, 333, "deck", "Z"), folder), {"scale": "minmax"}),
    "text among numbers of categories": (
        lambda folder: text(changed(MIXED.assign(zip=RNG.integers(10, 20, ROWS)), 222, "zip", "A1"), folder),
        {"categorical": ["auto", "zip"]},
    ),
    "gaps, filled": (lambda folder: text(GAPS, folder), {"missing": "mean"}),
    "gaps, dropped": (lambda folder: text(GAPS, folder), {"missing": "drop"}),
    "gaps in a table with an index": (lambda folder: text(GAPS, folder, index=True), {"missing": "drop"}),
    "labels of text": (lambda folder: text(NUMBERS.replace({"label": {0: "b", 1: "a", 2: "c"}}), folder), {}),
    "labels of truth": (lambda folder: text(NUMBERS.assign(label=LABELS > 0), folder), {}),
    "a guessed label": (lambda folder: text(NUMBERS.rename(columns={"label": "digit"}), folder), {}),
    "a number to predict": (lambda folder: text(NUMBERS, folder), {"label_column": "x2", "task": "regress"}),
    "columns left out": (lambda folder: text(MIXED, folder), {"drop": ["sex", "x1"], "scale": "robust"}),
    "no header": (lambda folder: text(NUMBERS, folder, header=False), {"header": False}),
    "tabs": (lambda folder: text(NUMBERS, folder, "t.tsv", sep="\t"), {}),
    "decimal commas": (lambda folder: text(NUMBERS, folder, sep=";", decimal=","), {}),
    "empty lines, and no end": (
        with_lines(lambda text: text.replace("\n", "\n\n").replace("\n\n1,", "\n \n1,").strip()),
        {},
    ),
    "ends of lines of Windows": (with_lines(lambda text: text.replace("\n", "\r\n")), {}),
    "parts in another order of columns": (lambda folder: parts(MIXED, folder), {}),
    "Latin-1": (
        lambda folder: text(MIXED.replace("male", "männlich"), folder, encoding="latin-1"),
        {"encoding": "latin-1"},
    ),
}


def columnar(folder: Path) -> Path:
    pytest.importorskip("pyarrow")
    GAPS.to_parquet(folder / "t.parquet", row_group_size=90, index=False)
    return folder / "t.parquet"


TABLES["Parquet"] = (columnar, {"missing": "mean"})


def same(one: Dataset, other: Dataset) -> bool:
    facts = ["classes", "class_names", "columns", "label", "notes", "doubts"]
    return one.sha256() == other.sha256() and all(getattr(one, name) == getattr(other, name) for name in facts)


@pytest.mark.parametrize("name", TABLES)
def test_a_mapped_table_is_the_same(name: str, tmp_path: Path, own_cache: Path) -> None:
    write, options = TABLES[name]
    path = str(write(tmp_path))
    whole = load_data(path, SingleProcess(), **options)
    for _ in range(2):  # read, and then from the cache
        mapped = load_data(path, SingleProcess(), map_above=0, **options)
        assert isinstance(mapped[0].features, MappedRows)
        assert all(map(same, whole, mapped))
        assert len(list((own_cache / "ddp_numpy" / "tables").iterdir())) == 2, "rows, and all else"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda table: changed(table, 311, "x2", "1O5"),
            r"t\.csv: row 312, column 'x2': '1O5' is not a number",
        ),
        (lambda table: changed(table, 311, "x2", np.nan), r"t\.csv: row 312, column 'x2': a value is missing"),
        (
            lambda table: changed(table, 5, "label", np.nan),
            r"t\.csv: row 6, column 'label': the label is missing",
        ),
        (
            lambda table: changed(table, 311, "x2", 1e60),
            r"t\.csv: row 312, column 'x2': 1e\+60 is not a finite",
        ),
        (
            lambda table: table.assign(label=2),
            r"t\.csv: all 400 rows have the label 2: at least two",
        ),
        (lambda table: table.assign(x1=np.nan), r"t\.csv: column 'x1' is empty; leave it out with --drop x1"),
        (lambda table: table[["label"]].assign(id=range(400)), r"t\.csv: its only feature, 'id', counts the rows"),
        (
            lambda table: table.assign(name=[f"n{i}" for i in range(ROWS)]),
            r"t\.csv: column 'name': 'n0' is text, of which there are .* different ones in .* rows; leave",
        ),
    ],
    ids=["text", "gap", "no label", "large", "one class", "empty", "only counts", "free text"],
)
def test_what_a_mapped_table_may_not_hold(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path, own_cache: Path
) -> None:
    path = text(change(NUMBERS), tmp_path)
    missing = "mean" if "is empty" in message else "error"
    with pytest.raises(InputError, match=message):
        load_data(str(path), SingleProcess(), map_above=0, missing=missing)
    tables = own_cache / "ddp_numpy" / "tables"
    assert not tables.exists() or not list(tables.iterdir()), "nothing is left half-written"


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: text(NUMBERS, folder, quoting=1),
        with_lines(lambda text: text.replace("\n", "\r")),
        lambda folder: text(NUMBERS, folder, "t.csv.gz"),
        lambda folder: text(NUMBERS, folder, "t.txt", sep=" "),
        lambda folder: text(NUMBERS.rename(columns={"x1": "x0.1"}), folder),
    ],
    ids=["quotes", "old Mac", "packed", "spaces", "names twice"],
)
def test_what_can_not_be_read_in_pieces_is_read_as_a_whole_once(
    write: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, times = str(write(tmp_path)), []
    read_table = load.read_table  # type: ignore[attr-defined]
    monkeypatch.setattr(load, "read_table", lambda *arguments: times.append(1) or read_table(*arguments))
    read = [load_data(path, SingleProcess(), map_above=limit)[0] for limit in (0, None, 0)]
    assert not any(isinstance(data.features, MappedRows) for data in read)
    assert len({data.sha256() for data in read}) == len(times) == 1


def test_what_can_be_read_in_no_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = text(NUMBERS, tmp_path, quoting=1)
    monkeypatch.setattr("ddp_numpy.data.load.memory_bytes", lambda: path.stat().st_size)
    with pytest.raises(InputError, match=r"t\.csv: has quotes, .*; mend that, or write it as Parquet"):
        load_data(str(path), SingleProcess())


def test_no_room_for_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"a table this large is read into a file there, .*; set XDG_CACHE_HOME to a"):
        load_data(str(text(NUMBERS, tmp_path)), SingleProcess(), map_above=0)


def test_rows_of_a_file_that_can_not_stay_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(text(MIXED, tmp_path))
    expected = load_data(path, SingleProcess())[0]
    monkeypatch.setattr("ddp_numpy.data.mapped.free_bytes", lambda: 0)
    train = load_data(path, SingleProcess(), map_above=0)[0]
    rows = RNG.integers(0, len(train), 30)
    for features in (slice(None), slice(2, 7)):
        read = []
        for data in (expected, train):
            X = np.empty((30, len(range(*features.indices(data.features.shape[1])))), np.float32)
            reader = Reader(data, np.float32)
            if features == slice(None):
                reader.read(rows, X)
            else:
                reader.read_features(rows, features, X)
            read.append(X)
        np.testing.assert_array_equal(*read)


def test_any_number_of_ranks_reads_and_trains_alike(tmp_path: Path) -> None:
    """Real jobs, on a table of several real pieces."""
    rng = np.random.default_rng(2)
    part = pd.DataFrame(rng.normal(size=(10_000, 99)).round(5), columns=[f"x{i}" for i in range(99)])
    part = part.assign(deck=rng.choice(list("ABC"), len(part)), label=rng.integers(0, 3, len(part)))
    header, *rows = part.to_csv(index=False).splitlines()
    # To write each row's numbers anew would take longer than all else, so four rows differ in one of them.
    lines = (f"{number * 7 % 10_007},{rows[number % len(rows)]}" for number in range(4 * len(rows)))
    (tmp_path / "t.csv").write_text("\n".join([f"x,{header}", *lines]) + "\n")
    options = ("--data", "t.csv", "--reproducible", "--epochs", "1", "--batch-size", "512")
    found = []
    for number, (ranks, mapped) in enumerate([(None, False), (None, True), (1, True), (3, True), (3, True)]):
        env = {"XDG_CACHE_HOME": str(tmp_path / f"cache{min(number, 3)}")}
        more = ("--map-above", "0") if mapped else ()
        job = run_job(ranks, "-m", "ddp_numpy.train", *options, *more, "--out", f"{number}", cwd=tmp_path, env=env)
        assert job.status == 0, job.err
        is_read = re.search(rf"t\.csv: 0\.0\d+ GB, read by {ranks or 1} rank", job.out) is not None
        assert is_read == (mapped and number < 4), "the last finds it in the cache"
        found.append(load_model(tmp_path / str(number) / "model.npz").params.tobytes())
    assert len(set(found)) == 1
