"""A table whose features stay in a file is the same table as one in memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ddp_numpy import SingleProcess, load_data
from ddp_numpy.data import Dataset
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
