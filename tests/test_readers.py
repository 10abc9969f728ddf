import gzip
import struct
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from memory import memory_left
from tables import classified_rows, write_csv

from ddp_numpy import InputError, Scale, SingleProcess, load_data
from ddp_numpy.data import Dataset, Reader
from ddp_numpy.data.classes import Name
from ddp_numpy.data.files import read_table
from ddp_numpy.data.idx import read_idx, read_idx_split
from ddp_numpy.data.npz import read_npz
from ddp_numpy.data.table import TableOptions

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
    table = read_table(path)
    features, labels = table.features, table.labels
    assert features.dtype == np.uint8
    np.testing.assert_array_equal(features, X)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("a,label,b\n5,0,1\n6,1,0\n", None, [[5, 1], [6, 0]]),  # the column named label, wherever it stands
        ("a,LABEL,b\n5,0,1\n6,1,0\n", None, [[5, 1], [6, 0]]),
        ("a,Class,target\n5,9,0\n6,9,1\n", None, [[5, 9], [6, 9]]),  # target before class
        ("y,a,b\n0,0,1\n1,1,0\n0,0,1\n1,1,0\n", None, [[0, 1], [1, 0]]),  # else the first
        ("a,b,c\n5,0,0\n6,1,1\n", "c", [[5, 0], [6, 1]]),  # else the one asked for
        ("label,label.1,b\n0,5,1\n1,6,0\n", None, [[5, 1], [6, 0]]),  # as pandas would call a second `label`
        ("label,self,self\n0,18446744073709551616,1\n1,-6,0\n", None, [[2.0**64, 1], [-6, 0]]),
    ],
)
def test_the_label_column(text: str, wanted: str | None, expected: list[list[float]], tmp_path: Path) -> None:
    table = read_table(text_file(tmp_path, text), TableOptions(label_column=wanted))
    np.testing.assert_array_equal(table.features[:2], expected)
    np.testing.assert_array_equal(table.labels[:2], [0, 1])


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
    read = read_table(text_file(tmp_path, text)).features
    np.testing.assert_array_equal(read.astype(np.float32), np.array(features, np.float32))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("label,a\n", "has a header line but no rows"),
        ("label\n0\n1\n", "has one column"),
        ("5,0,0\n0,1,1\n", "its first line holds numbers; add a header line"),
        ("label,a\n0,1\n1,2,3,4\n", "not a CSV file: .* line 3"),
        ("label,a\n0,1,7\n1,2,7\n", "more fields than its header"),
        ("a,b\n0,1\n0,2\n", "None is called label, target or class, and the first, 'a', has one value in all rows"),
        ("label,a\n0,1\n1,cat\n", "row 2, column 'a': 'cat' is not a number"),
        ("label,a\n0,1\n1,\n", "row 2, column 'a': a value is missing"),
        ("label,a,b\n0,1,2\n1,2\n", "row 2, column 'b': a value is missing"),
        ("label,a\n0,1\n1,inf\n", "row 2, column 'a': 'inf' is not a finite number"),
        ("label,a\n0,1\n1,1e39\n", "row 2, column 'a': 1e\\+39 is not a finite float32"),
        ("label,a\n0,1\n1,True\n", "row 2, column 'a': 'True' is not a number"),
        ("label,a\n0,1\n,2\n", "row 2, column 'label': the label is missing"),
        (
            "label,a\n0,1\n0.5,2\n",
            "row 2: label column 'label' is 0.5, which is no class; predict a number with --task",
        ),
        ("label,a\n0,1\n1e300,2\n", "row 2: label 1e\\+300 is no whole number up to"),
        ("label,a\n0,1\n-inf,2\n", "row 2: label -inf is no whole number up to"),
        ("a,b\n0,1\ninf,2\n0,1\n", "row 2: label inf is no whole number up to"),
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
        read_table(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("labels", "classes", "names"),
    [
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (["10", "a", "9"], [0, 2, 1], ("10", "9", "a")),
        (["True", "False", "False"], [1, 0, 0], (False, True)),
        (["0", "1", "2"], [0, 1, 2], ()),
        (["1.0", "3.0", "1.0"], [0, 1, 0], (1, 3)),
        (["7", "-5", "7"], [1, 0, 1], (-5, 7)),
        (["0", "18446744073709551615", "0"], [0, 1, 0], (0, 2**64 - 1)),
        (["0", "9" * 400, "0"], [0, 1, 0], ("0", "9" * 400)),
    ],
)
def test_classes_are_what_the_column_says(
    labels: list[str], classes: list[int], names: tuple[Name, ...], tmp_path: Path
) -> None:
    table = read_table(text_file(tmp_path, "label,a\n" + "".join(f"{label},5\n" for label in labels)))
    assert table.labels.tolist() == classes
    assert (table.class_names, list(map(type, table.class_names))) == (names, list(map(type, names)))
    path = str(text_file(tmp_path, "label,a\n" + "".join(f"{label},5\n" for label in labels * 2)))
    (read, _), (again, _) = load_data(path, COMM), load_data(path, COMM)  # the second from the cache
    assert read.class_names == again.class_names == names
    assert read.sha256() == again.sha256()


def test_a_wanted_label_column_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no label column 'digit'; its columns are label, a: choose"):
        read_table(text_file(tmp_path, "label,a\n0,1\n1,2\n"), TableOptions("digit"))
    with pytest.raises(InputError, match=r"no label column '\\n'; its columns are label, a\\nb: choose"):
        read_table(text_file(tmp_path, 'label,"a\nb"\n0,1\n1,2\n'), TableOptions("\n"))


def test_csv_files_that_are_something_else(tmp_path: Path) -> None:
    binary, cut = tmp_path / "b.csv", tmp_path / "c.csv.gz"
    binary.write_bytes(b"\xff\xfe\x00label\x80\n")
    with pytest.raises(InputError, match="not a text file"):
        read_table(binary)
    binary.write_bytes("label,größe\n0,1\n1,2\n".encode("latin1"))
    with pytest.raises(
        InputError, match="not a text file in UTF-8; of an older program, --encoding latin-1 may read it"
    ):
        read_table(binary)
    cut.write_bytes(gzip.compress(b"label,a\n" + b"0,1\n1,2\n" * 999)[:-12])
    with pytest.raises(InputError, match="cut short or damaged"):
        read_table(cut)
    cut.write_bytes(b"label,a\n0,1\n1,2\n")
    with pytest.raises(InputError, match="cut short or damaged"):
        read_table(cut)


@pytest.mark.parametrize("compress", [False, True])
def test_idx_folder(compress: bool, tmp_path: Path) -> None:
    X, y = classified_rows(20)
    train, valid = load_data(str(idx_folder(tmp_path, compress=compress)), COMM)
    np.testing.assert_array_equal(train.features, X)
    np.testing.assert_array_equal(train.labels, y)
    np.testing.assert_array_equal(valid.features, X[:10])
    assert train.classes == 4


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
    table = read_npz(tmp_path / "t.npz")
    features, labels = table.features, table.labels
    np.testing.assert_allclose(features, X / 7, rtol=1e-6)
    np.testing.assert_array_equal(labels, y)
    train, valid = load_data(str(tmp_path / "t.npz"), COMM)
    assert (len(train), len(valid), str(train.scale)) == (24, 6, "standardized")
    np.savez(tmp_path / "t.npz", X=X, y=y, names=np.array([object()] * 30))  # other arrays may be anything
    np.testing.assert_array_equal(read_npz(tmp_path / "t.npz").features, X)


@pytest.mark.parametrize("dtype", ["f2", "<f4", ">f4", "<f8", ">f8", "<i2", ">i2", "<i8", ">i8", "<u8", ">u8", "g"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_npz_of_every_number_type(dtype: str, order: Literal["C", "F"], tmp_path: Path) -> None:
    X, y = classified_rows(30)
    for scale in (1, 4):  # whole numbers up to 255, which are kept as uint8, and larger ones
        np.savez_compressed(tmp_path / "t.npz", X=(X.astype(dtype) * scale).astype(dtype, order), y=y.astype(dtype))
        table = read_npz(tmp_path / "t.npz")
        features, labels = table.features, table.labels
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
        ({"X": np.array([[1.0], [np.nan]]), "y": np.array([0, 1])}, "row 2, column 1: a value is missing"),
        ({"X": np.zeros((2, 1)), "y": np.array([0, np.nan])}, "row 2: label is missing"),
        (
            {"X": np.zeros((2, 1)), "y": np.array([0, 1.5])},
            "row 2: y is 1.5, which is no class; predict a number with --task regress$",
        ),
        ({"X": np.array([[object()], [1]]), "y": np.array([0, 1])}, r"X\.npy holds object, not plain values"),
        ({"X": np.zeros((2, 1), complex), "y": np.array([0, 1])}, "X holds complex128, not numbers"),
        ({"X": np.zeros((2, 1), "M8[s]"), "y": np.array([0, 1])}, "X holds datetime64"),
        ({"X": np.zeros((2, 1)), "y": np.array([0, np.nan], np.float16)}, "row 2: label is missing"),
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
    (train, _), (halved, _) = load_data(str(path), COMM), load_data(str(path), COMM, scale="divide:2")
    X, y = Reader(halved, np.float64).read(np.array([3, 0, 3]))
    np.testing.assert_array_equal(X, train.features[[3, 0, 3]] / 2)
    np.testing.assert_array_equal(y, train.labels[[3, 0, 3]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "large"}, "scale 'large': must be auto, none, divide, standard, minmax, robust, or divide:K with a"),
        ({"scale": "divide:0"}, "scale 'divide:0': must be"),
        ({"scale": "divide:x"}, "scale 'divide:x': must be"),
        ({"task": "regression"}, "task 'regression': must be 'classify' or 'regress'"),
        ({"encoding": "utf-9"}, "encoding 'utf-9': none that Python knows"),
        ({"encoding": "hex"}, "encoding 'hex': none that Python knows"),
    ],
)
def test_what_a_script_asks_for_and_there_is_not(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", *classified_rows(30))
    with pytest.raises(InputError, match=message):
        load_data(path, COMM, **options)


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("standard", [[-1, -1, 0], [1, 1, 0]]),
        ("minmax", [[0, 0, 0], [1, 1, 0]]),
        ("robust", [[-0.5, -0.5, 0], [0.5, 0.5, 0]]),
        ("none", [[1, 1e9, 5], [3, 1e9 + 4, 5]]),
        ("divide", [[1, 1e9, 5], [3, 1e9 + 4, 5]]),
        ("divide:4", [[0.25, 2.5e8, 1.25], [0.75, 2.5e8 + 1, 1.25]]),
    ],
)
def test_ways_of_scaling(scale: str, expected: list[list[float]], tmp_path: Path) -> None:
    """Of which the second column has more digits than float32, and the third never changes."""
    X, y = np.array([[1, 1e9, 5], [3, 1e9 + 4, 5]] * 20), np.array([0, 1] * 20)
    train, _ = load_data((X, y), COMM, scale=scale)
    rows = np.array([np.argmax(train.labels == label) for label in (0, 1)])
    found, _ = Reader(train, np.float32).read(rows)
    np.testing.assert_allclose(found, np.array(expected, np.float32), rtol=1e-6, atol=1e-6)
    part = np.empty((2, 2), np.float32)
    Reader(train, np.float32).read_features(rows, slice(1, 3), part)
    np.testing.assert_array_equal(part, found[:, 1:])
    assert np.abs(found).max() <= Reader(train, np.float32).largest * (1 + 1e-6)


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
    data = Dataset(np.zeros((1200, 784), np.uint8), np.zeros(1200, np.int64), 10, Scale(255.0))
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
