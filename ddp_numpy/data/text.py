"""How a file of text holds a table: packed, what stands between its fields, and how it writes fractions."""

import bz2
import contextlib
import dataclasses
import gzip
import io
import lzma
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular

_SAMPLE_BYTES = 2**16  # of which the form is found
_PACKED = (".gz", ".bz2", ".xz", ".zst")
_DELIMITERS = "\t;,|"
_QUOTED = re.compile('"[^"]*"')
_DECIMAL_COMMA, _DECIMAL_POINT = re.compile(r"[+-]?\d*,\d+"), re.compile(r"[+-]?\d*\.\d+")
SPACES = r"\s+"
"""The delimiter of a table whose fields stand in columns, as numpy.savetxt writes it; pandas knows it by this name."""


@dataclasses.dataclass(frozen=True)
class Form:
    """How lines are to be read."""

    delimiter: str = ","
    decimal: str = "."


def is_text(path: Path) -> bool:
    """Whether its name is that of a text file with a table."""
    name = path.name.removesuffix(next((end for end in _PACKED if path.name.endswith(end)), ""))
    return name.endswith((".csv", ".tsv", ".txt"))


def is_packed(path: Path) -> bool:
    """Whether its name is that of a compressed file."""
    return path.name.endswith(_PACKED)


@contextlib.contextmanager
def open_text(path: Path) -> Iterator[IO[bytes]]:
    """Open a file of text to read its bytes, unpacked.

    Raises InputError, at any read too, for a compressed file that is cut short or damaged, and OSError as open() does.
    """
    with open_regular(path) as file:
        try:
            yield _unpacked(path, file)
        except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
            if getattr(error, "errno", None) is not None:  # of the system; readers of packed files give none
                raise
            raise InputError(f"{path}: the file is cut short or damaged ({error}); copy it again") from None


def _unpacked(path: Path, file: IO[bytes]) -> IO[bytes]:
    if path.name.endswith(".gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=file))
    if path.name.endswith(".bz2"):
        return bz2.BZ2File(file)
    if path.name.endswith(".xz"):
        return lzma.LZMAFile(file)
    if path.name.endswith(".zst"):
        return _unpacked_zst(path, file)
    return file


def _unpacked_zst(path: Path, file: IO[bytes]) -> IO[bytes]:
    """All at once: zstandard's reader of streams takes the end of a file for that of its data, wherever it was cut."""
    try:
        import zstandard
    except ImportError:
        raise InputError(f"{path}: reading .zst needs zstandard: pip install zstandard") from None
    text, packed = io.BytesIO(), file.read()
    while packed:
        frame = zstandard.ZstdDecompressor().decompressobj()
        try:
            text.write(frame.decompress(packed))
        except zstandard.ZstdError as error:
            raise EOFError(error) from None
        if not frame.eof:
            raise EOFError("the last frame has no end")
        packed = frame.unused_data
    text.seek(0)
    return text


def find_form(path: Path, encoding: str) -> Form:
    """The delimiter that the first line and the next agree on, and whether fractions are written with a comma.

    Example: "a;b" above "1,5;2" is delimited by semicolons, with decimal commas. Commas if nothing else is found.
    """
    with open_text(path) as file:
        sample = file.read(_SAMPLE_BYTES)
    text = _QUOTED.sub("", sample.decode(encoding, "replace")).lstrip("\ufeff")
    lines = [line for line in text.splitlines() if line.strip()]
    if len(sample) == _SAMPLE_BYTES:
        lines = lines[:-1]  # which may be cut
    if not lines:
        return Form()
    header, rows = lines[0], lines[1:]
    counts = {mark: header.count(mark) for mark in _DELIMITERS if mark in header}
    agreed = [mark for mark, count in counts.items() if not rows or rows[0].count(mark) == count]
    delimiter = max(agreed or counts, key=lambda mark: counts[mark], default=",")
    if not counts:
        return Form(SPACES if ".txt" in path.suffixes and len(header.split()) > 1 else ",")
    fields = [field.strip() for line in rows[:100] for field in line.split(delimiter)]
    has_commas = delimiter != "," and any(_DECIMAL_COMMA.fullmatch(field) for field in fields)
    has_points = any(_DECIMAL_POINT.fullmatch(field) for field in fields)
    return Form(delimiter, "," if has_commas and not has_points else ".")
