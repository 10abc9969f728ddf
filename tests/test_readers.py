import gzip
import io
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from memory import memory_left
from tables import classified_rows, write_csv

from ddp_numpy import InputError, SingleProcess, load_data
from ddp_numpy.data import Dataset, Reader
from ddp_numpy.data import csv as csv_module
from ddp_numpy.data.csv import read_csv
from ddp_numpy.data.idx import read_idx, read_idx_split
from ddp_numpy.data.npz import read_npz

COMM = SingleProcess()


def text_file(folder: Path, text: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()


def idx_folder(folder: Path, rows: int = 20, compress: bool = False) -> Path:
    X, y = classified_rows(rows)
    for split, part in (("train", slice(0, None)), ("t10k", slice(0, rows // 2))):
        for name, array in (("images-idx3", X[part].reshape(-1, 3, 4)), ("labels-idx1", y[part].astype(np.uint8))):
            data = idx_bytes(array)
            if compress:
                (folder / f"{split}-{name}-ubyte.gz").write_bytes(gzip.compress(data))
            else:
                (folder / f"{split}-{name}-ubyte").write_bytes(data)
    return folder


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
def test_csv_gives_back_what_was_written(name: str, tmp_path: Path) -> None:
    X, y = classified_rows(30)
    path = write_csv(tmp_path / "t.csv", X, y)
    if name.endswith(".gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress((tmp_path / "t.csv").read_bytes()))
    features, labels = read_csv(path)
    assert features.dtype == np.uint8
    np.testing.assert_array_equal(features, X)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("a,label,b\n5,0,1\n6,1,0\n", None, [[5, 1], [6, 0]]),  # the column named label, wherever it stands
        ("y,a,b\n0,0,1\n1,1,0\n", None, [[0, 1], [1, 0]]),  # else the first
        ("a,b,c\n5,0,0\n6,1,1\n", "c", [[5, 0], [6, 1]]),  # else the one asked for
        ("label,label.1,b\n0,5,1\n1,6,0\n", None, [[5, 1], [6, 0]]),  # as pandas would call a second `label`
        ("label,self,self\n0,18446744073709551616,1\n1,-6,0\n", None, [[2.0**64, 1], [-6, 0]]),
    ],
)
def test_the_label_column(text: str, wanted: str | None, expected: list[list[float]], tmp_path: Path) -> None:
    features, labels = read_csv(text_file(tmp_path, text), wanted)
    np.testing.assert_array_equal(features, expected)
    np.testing.assert_array_equal(labels, [0, 1])


@pytest.mark.parametrize(
    ("text", "features"),
    [
        ("label,a\n0,1.5\n1,300\n", [[1.5], [300]]),
        ("label,a\n0,-1\n1,255\n", [[-1], [255]]),
        ("label,a\n0,256\n1,0\n", [[256], [0]]),
        ("label,a\n0.0,1.0\n1.0,255.0\n", [[1], [255]]),
        ("label,a\n0,1e-3\n1,2E5\n", [[1e-3], [2e5]]),
        ("label,a\n0,18446744073709551615\n1,-5\n", [[2.0**64], [-5]]),  # no type of whole numbers holds both
        ("label,a,b\n0,18446744073709551615,0\n1,0,-5\n", [[2.0**64, 0], [0, -5]]),
        ("label,a\n0,100000000000000000000\n1,0\n", [[1e20], [0]]),
    ],
)
def test_csv_numbers_keep_their_values(text: str, features: list[list[float]], tmp_path: Path) -> None:
    read, _ = read_csv(text_file(tmp_path, text))
    np.testing.assert_array_equal(read, np.array(features, np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("label,a\n", "has a header line but no rows"),
        ("label\n0\n1\n", "has one column"),
        ("5,0,0\n0,1,1\n", "its first line holds numbers; add a header line"),
        ("label,a\n0,1\n1,2,3,4\n", "not a CSV file: .* line 3"),
        ("label,a\n0,1,7\n1,2,7\n", "more fields than its header"),
        ("a,b\n0,1\n0,2\n", "no label column: none is called 'label', and the first, 'a', has one value"),
        ("label,a\n0,1\n1,cat\n", "row 2, column 'a': 'cat' is not a number"),
        ("label,a\n0,1\n1,\n", "row 2, column 'a': a value is missing"),
        ("label,a,b\n0,1,2\n1,2\n", "row 2, column 'b': a value is missing"),
        ("label,a\n0,1\n1,inf\n", "row 2, column 'a': 'inf' is not a finite number"),
        ("label,a\n0,1\n1,1e39\n", "row 2, column 'a': 1e\\+39 is not a finite float32"),
        ("label,a\n0,1\n1,True\n", "row 2, column 'a': 'True' is not a number"),
        ("label,a\n0,True\n1,True\n", "row 1, column 'a': 'True' is not a number"),
        ("label,a\nzero,1\n1,2\n", "row 1, column 'label': 'zero' is not a number"),
        ("label,a\n0,1\n,2\n", "row 2, column 'label': a value is missing"),
        ("label,a\n0,1\n0.5,2\n", "row 2: label is 0.5: labels must be whole numbers"),
        ("label,a\n0,1\n-1,2\n", "row 2: label is -1: labels must be whole numbers"),
        ("label,a\n0,1\n1e300,2\n", "row 2: label is 1e\\+300"),
        ("label,a\n0,1\n2,2\n", "no row has label 1, but row 2 has 2"),
        ("label,a\n1,1\n2,2\n", "no row has label 0, but row 1 has 1"),
        ("label,a\n18446744073709551615,1\n0,2\n", "row 1: label is 18446744073709551615: labels must be"),
        ("label,a\n0,1\n18446744073709551615,2\n-5,2\n", "row 2: label is 1.8446744073709552e\\+19: labels must be"),
        ("label,a\n0,1\n" + "9" * 400 + ",2\n", "row 2, column 'label': '9+' is not a (finite )?number"),
        ("label,a\n0," + "9" * 300 + "\n1,2\n", "row 1, column 'a': 1e\\+300 is not a finite float32"),
        ("label,a\n0,1\x002\n1,2\n", "line 2 holds a NUL: not a text file"),
        ("label,a\x1b[31m\n0,x\n1,2\n", r"row 1, column 'a\\x1b\[31m': 'x' is not a number"),
        ("label,a,label\n0,1,0\n1,2,1\n", "more than one column is called 'label'; keep one of them"),
        ('label,a\n0,"1\n1,2\n', "not a CSV file: .* EOF inside string"),
        ("label,a\n0,1\n0,2\n", "all 2 rows have the label 0"),
    ],
)
def test_csv_mistakes_are_named(text: str, message: str, tmp_path: Path) -> None:
    path = text_file(tmp_path, text)
    with pytest.raises(InputError, match=message) as raised:
        read_csv(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_wanted_label_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no label column 'digit'; its columns are label, a: choose"):
        read_csv(text_file(tmp_path, "label,a\n0,1\n1,2\n"), "digit")
    with pytest.raises(InputError, match=r"no label column '\\n'; its columns are label, a\\nb: choose"):
        read_csv(text_file(tmp_path, 'label,"a\nb"\n0,1\n1,2\n'), "\n")


def test_csv_files_that_are_something_else(tmp_path: Path) -> None:
    binary, cut = tmp_path / "b.csv", tmp_path / "c.csv.gz"
    binary.write_bytes(b"\xff\xfe\x00label\x80\n")
    with pytest.raises(InputError, match="not a text file"):
        read_csv(binary)
    binary.write_bytes("label,größe\n0,1\n1,2\n".encode("latin1"))
    with pytest.raises(InputError, match="not a text file in UTF-8; save it so"):
        read_csv(binary)
    cut.write_bytes(gzip.compress(b"label,a\n" + b"0,1\n1,2\n" * 999)[:-12])
    with pytest.raises(InputError, match="cut short or damaged"):
        read_csv(cut)
    cut.write_bytes(b"label,a\n0,1\n1,2\n")
    with pytest.raises(InputError, match="cut short or damaged"):
        read_csv(cut)


def count_parses(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    parsed: list[Path] = []

    def counting(path: Path, label_column: str | None) -> tuple[np.ndarray, np.ndarray]:
        parsed.append(path)
        return csv_module.read_csv(path, label_column)

    monkeypatch.setattr("ddp_numpy.data.load.read_csv", counting)
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
        assert (a.classes, a.divisor) == (b.classes, b.divisor) == (4, 255.0 if scale == 1 else 1.0)


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
    path = text_file(tmp_path, "label,b\n" + "0,1\n1,0\n" * 10)
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

    def read(path: Path, label_column: str | None) -> tuple[np.ndarray, np.ndarray]:
        nonlocal replacements
        table = csv_module.read_csv(path, label_column)
        if replacements:
            replacements -= 1
            os.replace(write_csv(tmp_path / "copy.csv", 255 - X, y), path)
        return table

    monkeypatch.setattr("ddp_numpy.data.load.read_csv", read)
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


@pytest.mark.parametrize("compress", [False, True])
def test_idx_folder(compress: bool, tmp_path: Path) -> None:
    X, y = classified_rows(20)
    train, valid = load_data(str(idx_folder(tmp_path, compress=compress)), COMM)
    np.testing.assert_array_equal(train.features, X)
    np.testing.assert_array_equal(train.labels, y)
    np.testing.assert_array_equal(valid.features, X[:10])
    assert (train.classes, train.divisor, valid.divisor) == (4, 255.0, 255.0)


def test_idx_mistakes_are_named(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path)
    images, labels = folder / "train-images-idx3-ubyte", folder / "train-labels-idx1-ubyte"
    good = images.read_bytes()
    for data, message in (
        (labels.read_bytes(), "magic number 2049, expected 2051"),
        (b"", "magic number 0, expected 2051"),
        (good[:-1], "wrong size: its header says 20 x 3 x 4 bytes, but 239 follow"),
        (good + b"x", "but more follow"),
        (gzip.compress(good + b"x"), "but more follow"),
        (gzip.compress(good[:-1]), "20 x 3 x 4 bytes, but 239 follow"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "4,294,967,295 x 4,294,967,295 x 4,294,967,295 bytes, but 0 follow"),
        (gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12 + bytes(10**6)), "bytes, but 1,000,000 follow"),
        (gzip.compress(good)[:-9], "cut short or damaged"),
        (gzip.compress(good)[:-8] + b"\0" * 8, "cut short or damaged"),
        (gzip.compress(good)[:30] + b"\xff" * 30 + gzip.compress(good)[60:], "cut short or damaged"),
    ):
        images.write_bytes(data)
        with pytest.raises(InputError, match=message) as raised:
            read_idx(images, dimensions=3)
        assert str(images) in str(raised.value)
    images.write_bytes(idx_bytes(np.zeros((19, 3, 4), np.uint8)))
    with pytest.raises(InputError, match="has 20 labels for 19 images"):
        read_idx_split(folder, "train")
    for shape in ((20, 0, 4), (20, 0, 0), (0, 3, 4)):
        images.write_bytes(idx_bytes(np.zeros(shape, np.uint8)))
        labels.write_bytes(idx_bytes(np.zeros(shape[0], np.uint8)))
        with pytest.raises(InputError, match=f"holds no pixels: {shape[0]} x {shape[1]} x {shape[2]} bytes"):
            read_idx_split(folder, "train")
    images.unlink()
    with pytest.raises(InputError, match=r"has no train-images-idx3-ubyte or train-images-idx3-ubyte\.gz"):
        load_data(str(folder), COMM)


def test_idx_splits_must_fit_each_other(tmp_path: Path) -> None:
    folder = idx_folder(tmp_path)
    labels = folder / "t10k-labels-idx1-ubyte"
    good = labels.read_bytes()
    labels.write_bytes(good[:-1] + b"\x04")
    with pytest.raises(InputError, match="validation label 4 is in no training row"):
        load_data(str(folder), COMM)
    labels.write_bytes(good)
    (folder / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((10, 2, 2), np.uint8)))
    with pytest.raises(InputError, match="training images have 12 pixels, validation images 4"):
        load_data(str(folder), COMM)


def test_npz(tmp_path: Path) -> None:
    X, y = classified_rows(30)
    np.savez(tmp_path / "t.npz", X=X.reshape(30, 3, 4) / 7, y=y)
    features, labels = read_npz(tmp_path / "t.npz")
    np.testing.assert_allclose(features, X / 7, rtol=1e-6)
    np.testing.assert_array_equal(labels, y)
    train, valid = load_data(str(tmp_path / "t.npz"), COMM)
    assert (len(train), len(valid), train.divisor) == (24, 6, 1.0)
    np.savez(tmp_path / "t.npz", X=X, y=y, names=np.array([object()] * 30))  # other arrays may be anything
    np.testing.assert_array_equal(read_npz(tmp_path / "t.npz")[0], X)


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i8", ">i8", "<u8", ">u8", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_of_every_number_type(dtype: str, order: Literal["C", "F"], tmp_path: Path) -> None:
    X, y = classified_rows(30)
    for scale in (1, 4):  # whole numbers up to 255, which are kept as uint8, and larger ones
        np.savez_compressed(tmp_path / "t.npz", X=(X.astype(dtype) * scale).astype(dtype, order), y=y.astype(dtype))
        features, labels = read_npz(tmp_path / "t.npz")
        assert features.dtype == (np.uint8 if scale == 1 else np.float32)
        assert features.dtype.isnative
        assert features.flags.c_contiguous
        assert labels.dtype == np.int64
        np.testing.assert_array_equal(features, X.astype(int) * scale)
        np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((3, 2))}, "has no array y"),
        ({"a": np.zeros(3)}, "has no array X; arrays X and y are needed, found a"),
        ({"X": np.zeros((3, 2)), "y": np.array([0, 1])}, r"X \(3, 2\) and y \(2,\) must have the shapes"),
        ({"X": np.zeros(3), "y": np.array([0, 1, 0])}, r"X \(3,\) and y \(3,\)"),
        ({"X": np.zeros((0, 2)), "y": np.zeros(0)}, r"n above 0"),
        ({"X": np.array([["a"], ["b"]]), "y": np.array([0, 1])}, "X holds <U1, not numbers"),
        ({"X": np.zeros((2, 1)), "y": np.array(["a", "b"])}, "y holds <U1, not numbers"),
        ({"X": np.array([[1.0], [np.nan]]), "y": np.array([0, 1])}, "row 2, column 1: a value is missing"),
        ({"X": np.zeros((2, 1)), "y": np.array([0, np.nan])}, "row 2: label is missing"),
        ({"X": np.zeros((2, 1)), "y": np.array([0, 1.5])}, "row 2: label is 1.5"),
        ({"X": np.array([[object()], [1]]), "y": np.array([0, 1])}, r"X\.npy holds object, not plain values"),
        ({"X": np.zeros((2, 1), complex), "y": np.array([0, 1])}, "X holds complex128, not numbers"),
        ({"X": np.zeros((2, 1), "M8[s]"), "y": np.array([0, 1])}, "X holds datetime64"),
        ({"X": np.zeros((2, 1)), "y": np.array([0, 2**64 - 1], np.uint64)}, "row 2: label is 18446744073709551615"),
        ({"X": np.zeros((2, 1)), "y": np.array([0, np.nan], np.float16)}, "row 2: label is missing"),
        ({"X": np.zeros((2, 1)), "y": np.array([-(2**63), 0])}, "row 1: label is -9223372036854775808"),
    ],
)
def test_npz_mistakes_are_named(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "t.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=message):
        read_npz(tmp_path / "t.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello"])
def test_npz_files_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"not a \.npz file"):
        read_npz(path)


def test_sources_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nope\.csv: no such file or folder"):
        load_data("nope.csv", COMM)
    with pytest.raises(InputError, match="unknown kind of file"):
        load_data(str(text_file(tmp_path, "x", "t.xlsx")), COMM)


def test_a_divisor_of_ones_own(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", *classified_rows(30))
    (train, _), (halved, _) = load_data(str(path), COMM), load_data(str(path), COMM, divisor=2)
    X, y = Reader(halved, np.float64).read(np.array([3, 0, 3]))
    np.testing.assert_array_equal(X, train.features[[3, 0, 3]] / 2)
    np.testing.assert_array_equal(y, train.labels[[3, 0, 3]])


def test_every_class_has_a_row_to_train_on(tmp_path: Path) -> None:
    X, y = classified_rows(30, classes=2)
    y[7] = 2
    path = write_csv(tmp_path / "t.csv", X, y)
    for seed in range(12):
        train, valid = load_data(str(path), COMM, valid_fraction=0.6, seed=seed)
        assert train.classes == valid.classes == 3
        assert set(train.labels) == {0, 1, 2}
    with pytest.raises(InputError, match="has one row of each label: more are needed"):
        load_data(str(text_file(tmp_path, "label,a\n0,1\n1,2\n")), COMM)


def test_a_dataset_is_shown_in_one_line() -> None:
    data = Dataset(np.zeros((1200, 784), np.uint8), np.zeros(1200, np.int64), 10, 255.0)
    assert repr(data) == "Dataset(1,200 rows of 784 features (divided by 255), 10 classes)"


def test_files_that_memory_can_not_hold(tmp_path: Path) -> None:
    load_data(str(write_csv(tmp_path / "t.csv", *classified_rows(30))), COMM)  # imports what reading needs
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(200, dtype=np.uint8) % 2))
    np.savez_compressed(tmp_path / "t.npz", X=np.zeros((200, 2**20), np.uint8), y=np.arange(200) % 2)
    images = struct.pack(">4I", 0x0803, 200, 1024, 1024)
    cases = [(tmp_path / "t.npz", tmp_path / "t.npz", "X.npy has 209,715,328 bytes, more than the memory that is left")]
    for name, start, block, source in (  # a gzip file may have several parts, one after the other
        ("rows.csv.gz", b"label,a\n", b"0,1\n1,0\n" * 2**17, "rows.csv.gz"),
        ("line.csv.gz", b"label,", b"1" * 2**20, "line.csv.gz"),
        ("train-images-idx3-ubyte.gz", images, bytes(2**20), "."),
    ):
        data = gzip.compress(start) + gzip.compress(block) * 200
        (tmp_path / name).write_bytes(data)
        cases.append(
            (tmp_path / source, tmp_path / name, f"needs more memory than there is: the file has {len(data):,}")
        )
    for path, named, message in cases:
        with memory_left(2**27), pytest.raises(InputError) as raised:
            load_data(str(path), COMM)
        assert str(raised.value).startswith(f"{named}: {message}")
