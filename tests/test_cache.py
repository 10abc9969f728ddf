import io
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tables import classified_rows, write_csv

from ddp_numpy import InputError, SingleProcess, load_data
from ddp_numpy.data import files as files_module
from ddp_numpy.data.table import Table, TableOptions

COMM = SingleProcess()


def count_parses(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    parsed: list[Path] = []

    def counting(path: Path, options: TableOptions, files: list[Path]) -> Table:
        parsed.append(path)
        return files_module.read_table(path, options, files)

    monkeypatch.setattr("ddp_numpy.data.load.read_table", counting)
    return parsed


@pytest.mark.parametrize("scale", [1, 0.5])
def test_a_csv_is_parsed_once(scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = count_parses(monkeypatch)
    X, y = classified_rows(30)
    path = write_csv(tmp_path / "t.csv", X * scale, y)
    first, again = load_data(str(path), COMM), load_data(str(path), COMM)
    assert len(parsed) == 1
    for a, b in zip(first, again, strict=True):
        assert a.features.dtype == b.features.dtype == (np.uint8 if scale == 1 else np.float32)
        np.testing.assert_array_equal(a.features, b.features)
        np.testing.assert_array_equal(a.labels, b.labels)
        assert (a.classes, a.sha256()) == (4, b.sha256())


def test_a_changed_csv_is_parsed_anew_and_its_cache_replaced(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = count_parses(monkeypatch)
    X, y = classified_rows(30)
    path = write_csv(tmp_path / "t.csv", X, y)
    load_data(str(path), COMM)
    status = path.stat()
    write_csv(path, X, y[::-1].copy())
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))  # same size, a nanosecond later
    train, valid = load_data(str(path), COMM)
    assert len(parsed) == 2
    assert len(list((own_cache / "ddp_numpy" / "tables").iterdir())) == 1
    assert len(train) + len(valid) == 30


def test_what_a_killed_writer_left_in_the_cache_goes_and_a_living_ones_stays(tmp_path: Path, own_cache: Path) -> None:
    tables = own_cache / "ddp_numpy" / "tables"
    tables.mkdir(parents=True)
    old, new, foreign = ".ddp_numpy-cache-1.tmp", ".ddp_numpy-cache-2.tmp", ".notes.tmp"
    for name, age_seconds in ((old, 5000), (new, 50), (foreign, 5000)):
        (tables / name).write_bytes(b"half")
        os.utime(tables / name, times=(time.time() - age_seconds,) * 2)
    load_data(str(write_csv(tmp_path / "t.csv", *classified_rows(30))), COMM)
    names = {path.name for path in tables.iterdir()}
    assert names >= {new, foreign}
    assert old not in names


def test_another_label_column_is_another_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("label,b\n" + "0,1\n1,0\n" * 10)
    (by_label, _), (by_b, _) = load_data(str(path), COMM), load_data(str(path), COMM, label_column="b")
    assert (by_label.features[:, 0] == 1 - by_label.labels).all()
    np.testing.assert_array_equal(by_b.labels, 1 - by_b.features[:, 0])
    with pytest.raises(InputError, match="no label column 'None'"):
        load_data(str(path), COMM, label_column="None")


def test_a_damaged_cache_costs_time_and_nothing_else(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed = count_parses(monkeypatch)
    X, y = classified_rows(30)
    path = write_csv(tmp_path / "t.csv", X, y)
    expected, _ = load_data(str(path), COMM)
    (entry,) = (own_cache / "ddp_numpy" / "tables").iterdir()
    whole = entry.read_bytes()
    # Many wrong features, one wrong bit of a label, a part of an entry, and other files in its place.
    features, labels = whole.index(X.tobytes()), whole.index(y.tobytes())
    changed_features = whole[:features] + b"\x07" * 100 + whole[features + 100 :]
    changed_label = whole[:labels] + bytes([whole[labels] ^ 1]) + whole[labels + 1 :]
    wrong = {"key": np.zeros(3, np.uint8), "features": X, "labels": y[::-1]}
    in_its_place = (saved(np.save, X), saved(np.savez, X=X, y=y), saved(np.savez, **wrong), b"", b"not an array")
    for damaged in (changed_features, changed_label, whole[:-7], *in_its_place):
        assert damaged != whole
        entry.write_bytes(damaged)
        parsed.clear()
        train, _ = load_data(str(path), COMM)
        assert train.sha256() == expected.sha256()
        assert len(parsed) == 1
        assert entry.read_bytes()[:200] == whole[:200]
    entry.unlink()
    os.mkfifo(entry)
    assert load_data(str(path), COMM)[0].sha256() == expected.sha256()


def saved(write: Callable[..., None], *arrays: np.ndarray, **named: np.ndarray) -> bytes:
    """What np.save or np.savez writes."""
    file = io.BytesIO()
    write(file, *arrays, **named)
    return file.getvalue()


def test_an_entry_of_another_file_is_not_taken(tmp_path: Path, own_cache: Path) -> None:
    X, y = classified_rows(30)
    one, other = write_csv(tmp_path / "one.csv", X, y), write_csv(tmp_path / "other.csv", 255 - X, y)
    expected, _ = load_data(str(one), COMM)
    (entry,) = (own_cache / "ddp_numpy" / "tables").iterdir()
    load_data(str(other), COMM)
    (others,) = set((own_cache / "ddp_numpy" / "tables").iterdir()) - {entry}
    entry.write_bytes(others.read_bytes())
    assert load_data(str(one), COMM)[0].sha256() == expected.sha256()


def test_entries_of_earlier_formats_are_removed(tmp_path: Path, own_cache: Path) -> None:
    tables, path = own_cache / "ddp_numpy" / "tables", write_csv(tmp_path / "t.csv", *classified_rows(30))
    load_data(str(path), COMM)
    (entry,) = tables.iterdir()
    np.save(tables / "0123456789abcdef-2050-17.npy", np.zeros(3))  # format 1
    (tables / f"{entry.name[:16]}-2050-17-1.npz").touch()
    path.touch()
    load_data(str(path), COMM)
    (entry,) = tables.iterdir()


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    X, y = classified_rows(30)
    path, new = write_csv(tmp_path / "t.csv", X, y), write_csv(tmp_path / "new.csv", 255 - X, y)
    expected, _ = load_data(str(new), COMM)
    replacements = 1

    def read(path: Path, options: TableOptions, files: list[Path]) -> Table:
        nonlocal replacements
        table = files_module.read_table(path, options, files)
        if replacements:
            replacements -= 1
            os.replace(write_csv(tmp_path / "copy.csv", 255 - X, y), path)
        return table

    monkeypatch.setattr("ddp_numpy.data.load.read_table", read)
    for _ in range(2):  # the second time from the cache
        assert load_data(str(path), COMM)[0].sha256() == expected.sha256()
    path.touch()
    replacements = 9
    with pytest.raises(InputError, match=r"t\.csv: changed each of the 3 times that it was read; start when it is"):
        load_data(str(path), COMM)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = write_csv(Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe\n.csv")), *classified_rows(30))
    (first, _), (again, _) = load_data(str(path), COMM), load_data(str(path), COMM)
    assert first.sha256() == again.sha256()
    with pytest.raises(InputError, match="no label column"):
        load_data(str(path), COMM, label_column="\ud800\0")
    for name in ("n" * 300 + ".csv", "n" * 300, "n" * 300 + ".npz", "a\0b.csv", "a\0b", "/" * 5000 + "a.csv"):
        with pytest.raises(InputError):
            load_data(name, COMM)


def test_a_cache_folder_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    train, _ = load_data(str(write_csv(tmp_path / "t.csv", *classified_rows(30))), COMM)
    assert len(train) == 24
