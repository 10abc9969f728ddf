import os
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from memory import memory_left

from ddp_numpy import InputError
from ddp_numpy.base import archive
from ddp_numpy.base.archive import Damaged, read_arrays

PLAIN = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }"


def member(
    header: str = PLAIN, body: bytes = bytes(16), version: int = 1, name: str = "X.npy", kind: int = zipfile.ZIP_STORED
) -> Callable[[Path], None]:
    """Writes a .npz of one member, with a header that NumPy itself would not write."""

    def write(path: Path) -> None:
        text = header.encode("latin1").ljust(117) + b"\n"
        size = struct.pack("<H" if version == 1 else "<I", len(text))
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr(name, b"\x93NUMPY" + bytes([version, 0]) + size + text + body)

    return write


def changed(kind: int, find: bytes, put: bytes, start: int = 0) -> Callable[[Path], None]:
    """Writes a good .npz, then puts other bytes over the first that are there `start` bytes behind `find`."""

    def write(path: Path) -> None:
        member(body=np.random.default_rng(0).bytes(16), kind=kind)(path)
        data = bytearray(path.read_bytes())
        at = data.index(find) + start
        data[at : at + len(put)] = put
        path.write_bytes(data)

    return write


def shape(text: str, dtype: str = "'<f8'") -> str:
    return f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {text}, }}"


def test_every_plain_array_comes_back(tmp_path: Path) -> None:
    arrays = {
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">i8"),
        "text": np.array("hällo"),
        "empty": np.zeros((0, 3)),
        "half": np.ones((2, 2), np.float16),
    }
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    np.savez_compressed(tmp_path / "b.npz", **arrays)  # type: ignore[arg-type]
    for name in ("a.npz", "b.npz"):
        read = read_arrays(tmp_path / name)
        assert list(read) == list(arrays)
        for key, array in arrays.items():
            assert read[key].dtype == array.dtype
            np.testing.assert_array_equal(read[key], array)
    assert list(read_arrays(tmp_path / "a.npz", names=["text"])) == ["text"]


def test_what_earlier_versions_of_numpy_wrote(tmp_path: Path) -> None:
    member(shape("(2L,)"))(tmp_path / "a.npz")  # Python 2
    np.testing.assert_array_equal(read_arrays(tmp_path / "a.npz")["X"], [0, 0])


_DIRECTORY = b"PK\x01\x02"
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty": (lambda path: path.write_bytes(b""), "not a .npz file of plain arrays, or a damaged one: File is not"),
    "no zip": (lambda path: path.write_bytes(b"hello"), "File is not a zip file"),
    "an array alone": (lambda path: np.save(path.open("wb"), np.zeros(2)), "File is not a zip file"),
    "objects": (lambda path: np.savez(path, X=np.array([object()])), "X.npy holds object, not plain values"),
    "columns": (lambda path: np.savez(path, X=np.zeros(2, "<i4,<f8")), "not plain values"),
    "arrays in cells": (member(shape("(1,)", "('<f8', (2,))")), "not plain values"),
    "cells of no bytes": (member(shape("(1000000000000,)", "'<U0'"), b""), "not plain values"),
    "no such type": (member(shape("(2,)", "'<q99'")), "damaged one"),
    "huge shape": (member(shape("(1000000000000,)")), "does not have the size that its shape (1000000000000,) needs"),
    "huge empty shape": (member(shape(f"(0, {10**40})"), b""), "damaged one"),
    "shape below 0": (member(shape("(-1, -2)")), "does not have the size"),
    "shape of words": (member(shape("'ab'")), "damaged one"),
    "many dimensions": (member(shape("(" + "1," * 33 + "2)"), b""), "does not have the size"),
    "nested": (member("(" * 110), "damaged one"),
    "escapes": (member("'\\q'"), "damaged one"),
    "no header": (member(""), "damaged one"),
    "version 3": (member(version=3), "not an array of plain values"),
    "version 9": (member(version=9), "not an array of plain values"),
    "name of two lines": (member(name="a\n\u2028b"), "found a\\n\\u2028b"),
    "no .npy": (member(name="X"), "has no array X; it is needed, found X"),
    "cut member": (member(body=bytes(15)), "does not have the size"),
    "long member": (member(body=bytes(17)), "does not have the size"),
    "encrypted": (changed(zipfile.ZIP_STORED, _DIRECTORY, b"\x01", 8), "X.npy is encrypted"),
    "unknown compression": (changed(zipfile.ZIP_STORED, _DIRECTORY, b"\x63", 10), "compression"),
    "deflate": (changed(zipfile.ZIP_DEFLATED, b"X.npy", b"\xff" * 9, 30), "damaged one"),
    "lzma": (changed(zipfile.ZIP_LZMA, b"X.npy", b"\xff" * 9, 30), "damaged one"),
    "bzip2": (changed(zipfile.ZIP_BZIP2, b"X.npy", b"\xff" * 9, 30), "damaged one"),
    "value": (changed(zipfile.ZIP_STORED, b"NUMPY", b"!", 125), "Bad CRC-32"),
    "stored sizes": (changed(zipfile.ZIP_STORED, _DIRECTORY, b"\xff\xff\xff\x00", 24), "size that it says"),
    "deflated size": (changed(zipfile.ZIP_DEFLATED, _DIRECTORY, b"\xff\xff\xff\x00", 24), "does not have the size"),
    "more than memory": (changed(zipfile.ZIP_DEFLATED, _DIRECTORY, b"\xfe\xff\xff\xff", 24), "more than this machine"),
    "place of the directory": (changed(zipfile.ZIP_STORED, b"PK\5\6", b"\xff\xff\xff\x7f", 12), "damaged one"),
    "offset": (changed(zipfile.ZIP_STORED, _DIRECTORY, b"\xff\xff\xff\x7f", 42), "damaged one"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, message = DAMAGE[name]
    monkeypatch.setattr(archive, "memory_bytes", lambda: 2**32 - 1024)
    path = tmp_path / "t.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write(path)
    with pytest.raises(Damaged) as raised:
        read_arrays(path)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_names_that_are_missing_or_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.npz"
    np.savez(path, X=np.zeros(2), other=np.array([object()]))
    assert list(read_arrays(path, names=["X"])) == ["X"]
    with pytest.raises(Damaged, match=r"has no array y; arrays X and y are needed, found X\.npy, other\.npy"):
        read_arrays(path, names=["X", "y"])
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("X.npy", b"")
    with pytest.raises(Damaged, match="more than one array X"):
        read_arrays(path, names=["X"])


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_arrays(tmp_path / "gone.npz")
    os.mkfifo(tmp_path / "pipe.npz")
    (tmp_path / "device.npz").symlink_to("/dev/zero")
    for name in (".", "pipe.npz", "device.npz", "a\0b"):
        with pytest.raises(InputError):
            read_arrays(tmp_path / name)


def test_an_array_that_memory_can_not_hold(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "t.npz", X=np.zeros(2**27, np.uint8))
    with memory_left(2**26), pytest.raises(Damaged, match=r"X\.npy has 134,217,856 bytes, more than the memory that"):
        read_arrays(tmp_path / "t.npz")
