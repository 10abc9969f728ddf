"""Parquet and Feather, and tables that come in several files."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from jobs import run_job
from test_columns import passengers

from ddp_numpy import InputError, SingleProcess, load_data
from ddp_numpy.data import Dataset, load_more

OPTIONS: dict[str, Any] = {"missing": "mean"}


def loaded(source: Any, **options: Any) -> tuple[Dataset, Dataset]:
    return load_data(source, SingleProcess(), **(OPTIONS | options))


def equal(found: tuple[Dataset, Dataset], expected: tuple[Dataset, Dataset]) -> bool:
    return [data.sha256() for data in found] == [data.sha256() for data in expected]


@pytest.mark.parametrize("name", ["t.parquet", "t.pq", "t.feather", "t.arrow"])
def test_columns_of_arrow(name: str, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    table = passengers().astype({"place": "category", "deck": "Int64", "label": "boolean"})
    table.loc[4, "deck"] = pd.NA
    write = table.to_parquet if name.endswith(("parquet", "pq")) else table.to_feather
    write(tmp_path / name)
    for source in (tmp_path / name, tmp_path / name, table):  # the second from the cache
        train, valid = loaded(source)
        assert [column.name for column in train.columns] == ["sex", "age", "place", "deck"]
        assert train.class_names == (False, True)
        assert len(train) + len(valid) == 60
        assert equal((train, valid), loaded(table))
    assert len(load_more(tmp_path / name, train, SingleProcess())) == 60
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-9])
    with pytest.raises(InputError, match=f"{name}: damaged, or not of the kind that its name says"):
        loaded(tmp_path / name)


def test_a_date_of_arrow_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    passengers().assign(day=pd.Timestamp("2026-11-28")).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"row 1, column 'day': '2026-11-28 00:00:00' is a date, .* --drop day"):
        loaded(tmp_path / "t.parquet")
    passengers().iloc[:0].to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match=r"t\.parquet: has no rows"):
        loaded(tmp_path / "t.parquet")


def test_without_pyarrow_its_name_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    passengers().to_csv(tmp_path / "t.csv", index=False)
    without = "import sys; sys.modules['pyarrow'] = None; from ddp_numpy.train import main, run; run(main)"
    job = run_job(None, "-c", without, "--data", "t.parquet", cwd=tmp_path)
    assert job.error_lines == ["error: t.parquet: reading it needs pyarrow: pip install pyarrow"]


def written(folder: Path, kind: str = "csv") -> pd.DataFrame:
    """A table in three files of a folder, and other things beside them."""
    table = passengers()
    folder.mkdir()
    for number, part in enumerate(np.array_split(np.arange(60), 3)):
        rows = table.iloc[part]
        rows = rows if number != 1 else rows[table.columns[::-1]]
        if kind == "csv":
            rows.to_csv(folder / f"part-{number}.csv{'.gz' if number == 2 else ''}", index=False)
        else:
            rows.to_parquet(folder / f"part-{number}.parquet")
    (folder / "_SUCCESS.csv").write_text("")
    (folder / ".part-3.csv").write_text("")
    (folder / "README.md").write_text("parts")
    return table


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_parts_of_one_table(kind: str, tmp_path: Path) -> None:
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    table = written(tmp_path / "parts", kind)
    for source in ("parts", f"parts/part-*.{kind}*", "parts/part-[0-2].*"):
        for _ in range(2):  # the second from the cache
            assert equal(loaded(tmp_path / source), loaded(table)), source
    assert equal(loaded(tmp_path / "parts", valid=tmp_path / "parts"), loaded(table, valid=table))


def test_a_part_that_is_added_or_changed_is_read(tmp_path: Path) -> None:
    table = written(tmp_path / "parts")
    assert len(loaded(tmp_path / "parts")[0]) == 48
    table.to_csv(tmp_path / "parts" / "part-3.csv", index=False)
    assert len(loaded(tmp_path / "parts")[0]) == 96
    table.iloc[:40].to_csv(tmp_path / "parts" / "part-3.csv", index=False)
    assert len(loaded(tmp_path / "parts")[0]) == 80
    caches = list((Path(os.environ["XDG_CACHE_HOME"]) / "ddp_numpy" / "tables").iterdir())
    assert len(caches) == 1, "of the newest state alone"


def test_parts_that_are_none(tmp_path: Path) -> None:
    table = written(tmp_path / "parts")
    with pytest.raises(InputError, match=r"no-\*\.csv: no file fits this pattern"):
        loaded(tmp_path / "parts" / "no-*.csv")
    with pytest.raises(InputError, match=r"README\.md: is no table, but fits the pattern"):
        loaded(tmp_path / "parts" / "*")
    table.drop(columns="deck").to_csv(tmp_path / "parts" / "part-1.csv", index=False)
    with pytest.raises(InputError, match=r"part-1\.csv: column 'deck' is not in both this and .*part-0\.csv"):
        loaded(tmp_path / "parts")
    table.iloc[20:40].assign(deck="x").to_csv(tmp_path / "parts" / "part-1.csv", index=False)
    with pytest.raises(InputError, match="parts: row 21, column 'deck'"):
        loaded(tmp_path / "parts", categorical=["none"], drop=["sex", "place"])


def test_standard_input_is_refused_with_the_reason(tmp_path: Path) -> None:
    job = run_job(None, "-m", "ddp_numpy.train", "--data", "-", cwd=tmp_path)
    assert job.status == 2
    assert len(job.error_lines) == 1
    assert job.error_lines[0].startswith("error: -: rows can't come from standard input: mpirun passes it to one rank")


def test_ranks_read_parts_together(tmp_path: Path) -> None:
    """Each rank some of the files, with the same rows as one process gets."""
    rng = np.random.default_rng(5)
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(5):
        table = pd.DataFrame(rng.normal(size=(2000, 40)).round(6), columns=[f"x{i}" for i in range(40)])
        table.insert(0, "label", rng.integers(0, 3, 2000))
        table.to_csv(folder / f"part-{number}.csv", index=False)
    (tmp_path / "load.py").write_text(
        "import ddp_numpy.data.load as load\n"
        "from ddp_numpy import load_data, world\n"
        "alone = []\n"
        "read = load.read_table\n"
        "load.read_table = lambda *arguments: alone.append(1) or read(*arguments)\n"
        "train, valid = load_data('parts', world())\n"
        "if world().rank == 0:\n"
        "    print(train.sha256(), valid.sha256(), len(alone))\n"
    )
    found = []
    for ranks in (None, 2, 3):
        job = run_job(ranks, "load.py", cwd=tmp_path, env={"XDG_CACHE_HOME": str(tmp_path / f"cache{ranks}")})
        assert job.status == 0, job.err
        found.append(job.out.split())
    assert found[0][:2] == found[1][:2] == found[2][:2]
    assert [words[2] for words in found] == ["1", "0", "0"]
