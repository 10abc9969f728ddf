"""Data files that are small and good, and random damage to them: for tests that expect the rows, or one line."""

import gzip
import io
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Rng = np.random.Generator

# What has a meaning to one of the readers: ends and quotes of fields, and numbers at the edges of types …
_TEXTS = (
    b"\n", b"\r", b"\r\n", b",", b'"', b'""', b" ", b"\t", b"#", b"-", b".", b"e", b"0", b"1", b"2", b"7", b"255",
    b"256", b"nan", b"inf", b"-inf", b"NA", b"True", b"1e400", b"1e39", b"-5", b"0.5", b"9" * 30, b"9" * 400, b"1_0",
    b"0x10", b"1j",
    b"18446744073709551615", b"9223372036854775808", b"-9223372036854775808", b"9007199254740993", b"2020-01-01",
    b"label", b"label,", b"\xc3\xa4", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"\0", b"\x1b[31m", b"\n\n", b'"\n"',
)  # fmt: skip
# … and parts of headers.
_PARTS = (
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\x1f\x8b", b"\x93NUMPY", b".npy", b"X.npy", b"descr", b"shape", b"<f8", b"|O",
    b">i2", b"<f2", b"<c8", b"<U3", b"<M8[s]", b"|V4", b"|b1", b"<u8", b"(", b")", b"()", b"(0,)", b"(-1,)", b"True",
    b"False", b"'", b"L", b"10**9", b"999999999999", b"{", b"}", b"[('a','<i4')]", b"\\", b"\\q", b"\xff\xff\xff\xff",
    b"\0\0\0\0", b"\0\0\0\x80", b"\1\0", b"\x7f", b"\0\0\x08\x03", b"\0\0\x08\x01", b"\0", b"\n", b" ", b"0", b"1",
)  # fmt: skip


def make(rng: Rng, folder: Path) -> list[str]:
    """Write a good data file of any kind into an empty folder. Returns the words of a command that trains on it."""
    writers: tuple[Callable[[Rng, Path], list[str]], ...] = (csv, csv, _npz, _npz, _idx)
    return writers[rng.integers(len(writers))](rng, folder)


def csv(rng: Rng, folder: Path) -> list[str]:
    """The same for a CSV file alone, at times a gzipped one."""
    X, y = _rows(rng)
    label = str(rng.choice(["label", "digit"]))
    lines = [",".join([label, *(f"x{i}" for i in range(X.shape[1]))])]
    lines += [",".join(map(str, [label, *row])) for row, label in zip(X, y, strict=True)]
    text = (str(rng.choice(["\n", "\r\n"])).join(lines) + "\n").encode()
    name = "t.csv.gz" if rng.random() < 0.25 else "t.csv"
    (folder / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return ["--data", name, *(["--label-column", label] if label == "digit" or rng.random() < 0.3 else [])]


def damage(rng: Rng, data: bytes) -> bytes:
    """The bytes after a few random changes: of the bytes as they are, or of what a gzip or zip file holds."""
    for _ in range(rng.geometric(0.6)):
        inside = rng.random() < 0.6
        if inside and data.startswith(b"\x1f\x8b"):
            data = _damage_gzip(rng, data)
        elif inside and data.startswith(b"PK"):
            data = _damage_zip(rng, data)
        else:
            data = damage_bytes(rng, data)
    return data


def damage_bytes(rng: Rng, data: bytes) -> bytes:
    """The bytes after a random change."""
    at = int(rng.integers(len(data) + 1))
    if rng.random() < 0.5:  # where headers and directories are
        at = min(at, int(rng.integers(64))) if rng.random() < 0.5 else max(at, len(data) - int(rng.integers(200)))
    size = int(min(rng.geometric(0.2), 64))
    tokens = _PARTS if b"\0" in data else _TEXTS
    token = tokens[rng.integers(len(tokens))]
    start, end = data[:at], data[at:]
    match rng.integers(8):
        case 0:
            return start + bytes([end[0] ^ (1 << int(rng.integers(8)))]) + end[1:] if end else start
        case 1:
            return start + rng.bytes(size) + end[size:]
        case 2:
            return start + token + end[len(token) :]
        case 3 | 4:
            return start + token + end
        case 5:
            return start + end[size:]
        case 6:
            return start + end[:size] * int(rng.integers(2, 5)) + end[size:]
        case _:
            return start


def files(folder: Path) -> dict[Path, bytes]:
    """All files below a folder, with their contents."""
    return {Path(root) / name: (Path(root) / name).read_bytes() for root, _, names in os.walk(folder) for name in names}


def _rows(rng: Rng) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, d) of one of many types, and labels (n,) of 2 to 4 classes."""
    n, d, classes = (int(rng.integers(*limits)) for limits in ((6, 40), (1, 6), (2, 5)))
    X = rng.integers(0, 256, (n, d)) if rng.random() < 0.5 else rng.normal(0, 1000, (n, d)).round(3)
    y = np.arange(n) % classes if n >= 2 * classes else np.arange(n) % 2
    return X, rng.permutation(y)


def _npz(rng: Rng, folder: Path) -> list[str]:
    X, y = _rows(rng)
    X = X.astype(rng.choice(["u1", "<i4", ">i8", "<f4", ">f8", "<f2"]), order=rng.choice(["C", "F"]))
    save = np.savez if rng.random() < 0.5 else np.savez_compressed
    save(folder / "t.npz", X=X, y=y.astype(rng.choice(["u1", ">i2", "<i8", "<f8", "<u8"])))
    return ["--data", "t.npz"]


def _idx(rng: Rng, folder: Path) -> list[str]:
    X, y = _rows(rng)
    pixels = np.abs(X).astype(np.uint8)[:, :, None]
    for split in ("train", "t10k"):
        for name, array in (("images-idx3", pixels), ("labels-idx1", y.astype(np.uint8))):
            data = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape) + array.tobytes()
            if rng.random() < 0.3:
                data = gzip.compress(data)
            (folder / f"{split}-{name}-ubyte").write_bytes(data)
    return ["--data", "."]


def _damage_gzip(rng: Rng, data: bytes) -> bytes:
    """The same for what is packed: the checksum then fits the damage."""
    try:
        return gzip.compress(damage_bytes(rng, gzip.decompress(data)))
    except (OSError, EOFError, zlib.error):
        return damage_bytes(rng, data)


def _damage_zip(rng: Rng, data: bytes) -> bytes:
    """Change a member, with a checksum that fits, or leave one out, add one, or write it under another name."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(name, archive.read(name)) for name in archive.namelist()]
        which = int(rng.integers(len(members)))
        name, content = members[which]
        match rng.integers(6):
            case 0:
                del members[which]
            case 1:
                members.append((name, damage_bytes(rng, content)))
            case 2:
                members[which] = (str(rng.choice(["X", "y.npy", "X.npy", "../X.npy", "é.npy", ""])), content)
            case _:
                members[which] = (name, damage_bytes(rng, content))
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names that are there twice
            for name, content in members:
                kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
                archive.writestr(name, content, kinds[rng.choice(4, p=(0.4, 0.4, 0.1, 0.1))])
        return packed.getvalue()
    except Exception:  # the archive is too damaged for that
        return damage_bytes(rng, data)
