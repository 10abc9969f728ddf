"""Tables in pieces: some megabytes of the lines of a file of text, or some thousand rows of a Parquet file."""

import contextlib
import functools
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.csv import check_shape, may_be_twice, parse
from ddp_numpy.data.csv_parts import FIRST_LINES, header_and_lines
from ddp_numpy.data.files import PARQUET, open_arrow
from ddp_numpy.data.small_numbers import small_numbers
from ddp_numpy.data.table import TableOptions
from ddp_numpy.data.text import SPACES, find_form, is_packed, is_text

if TYPE_CHECKING:
    import pandas as pd

_PIECE_BYTES = 2**24  # of text: as numbers, pandas has some times as much in memory
_EMPTY_LINE = re.compile(rb"^[ \t]*\r?\n", re.MULTILINE)


class NotInPieces(InputError):  # noqa: N818
    """The table has to be read as a whole."""


@dataclass(frozen=True)
class Piece:
    """One of so many of a file, from 0."""

    path: Path
    number: int
    of: int


def may_be_in_pieces(path: Path) -> bool:
    """Whether its name is that of a file of text that is not packed, or of a Parquet file."""
    return path.name.endswith(PARQUET) or (is_text(path) and not is_packed(path))


class Pieces:
    """The pieces of the files of a table, in their order."""

    def __init__(self, files: Sequence[Path], options: TableOptions) -> None:
        """files: that may be in pieces. Raises InputError and OSError as readers of files do."""
        self._options = options
        self.all: list[Piece] = []
        self.nbytes = 0
        """Of all files, as they are without packing."""
        self._form = functools.cache(lambda path: find_form(path, options.encoding))
        for path in files:
            if path.name.endswith(PARQUET):
                parts, size = self._groups(path)
            else:
                size = path.stat().st_size
                parts = max(1, -(-size // _PIECE_BYTES))
            self.nbytes += size
            self.all += [Piece(path, number, parts) for number in range(parts)]
        if files and not self.all:
            raise NotInPieces(f"{files[0]}: has no groups of rows")

    def names(self) -> list[str]:
        """Of the columns, as the first file has them. Raises as `frames` does."""
        for piece in self.all:
            for frame in self.frames(piece):
                return list(map(str, frame.columns))
        raise NotInPieces(f"{self.all[0].path}: has no rows")

    def count(self, piece: Piece) -> int:
        """How many rows it has."""
        if piece.path.name.endswith(PARQUET):
            with _open_parquet(piece.path) as file:
                return int(file.metadata.row_group(piece.number).num_rows)
        _, lines = self._text(piece)
        text = np.frombuffer(lines, np.uint8)
        ends = np.flatnonzero(text == ord("\n"))  # four times as fast as looking for line ends with a blank behind
        rows = len(ends) + (lines[-1:] not in (b"", b"\n"))
        first = text[np.append(0, ends[ends < len(text) - 1] + 1)] if len(text) else text
        may_be_empty = np.isin(first, np.frombuffer(b" \t\r\n", np.uint8)).any()
        return rows - len(_EMPTY_LINE.findall(lines)) if may_be_empty else rows

    def frames(self, piece: Piece, texts: Sequence[str] = ()) -> Iterator["pd.DataFrame"]:
        """Its rows, in columns as pandas understands them. texts: columns whose values are kept as they stand.

        Raises NotInPieces if what it says depends on other pieces, InputError for what is no table, and OSError as
        open() does.
        """
        if piece.path.name.endswith(PARQUET):
            with _open_parquet(piece.path) as file:
                rows = max(1, _PIECE_BYTES // (8 * max(1, file.metadata.num_columns)))
                for batch in file.iter_batches(rows, row_groups=[piece.number]):
                    yield batch.to_pandas()
        else:
            yield self._parsed(piece, texts)

    def _parsed(self, piece: Piece, texts: Sequence[str]) -> "pd.DataFrame":
        import pandas as pd

        header, lines = self._text(piece)
        path, form = piece.path, self._form(piece.path)
        small = None
        if self._options.header and form.delimiter != SPACES and not texts:
            small = small_numbers(header, lines, form.delimiter.encode())
        if small is not None and not may_be_twice(small[0]):
            table = pd.DataFrame(small[1], columns=pd.Index(small[0]))
            check_shape(table, path, self._options)
            return table
        if b'"' in lines or header.count(b'"') % 2:
            raise NotInPieces(f"{path}: has quotes, inside which a line may end, so it can't be read in pieces")
        if b"\0" in lines or lines.count(b"\r") != lines.count(b"\r\n"):
            raise NotInPieces(f"{path}: lines that end as those of other systems can't be read in pieces")
        mark = form.delimiter.encode()
        first = FIRST_LINES.match(header + lines)
        if form.delimiter == SPACES or (first and first[1].count(mark) < first[2].count(mark)):
            raise NotInPieces(f"{path}: fields that stand apart by spaces, or without a name, can't be read in pieces")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = parse(io.BytesIO(header + lines), self._options, form, texts=texts)
        except UnicodeError:
            raise NotInPieces(f"{path}: not all of it is {self._options.encoding.upper()}; see --encoding") from None
        except (pd.errors.ParserWarning, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            raise NotInPieces(f"{path}: can't be read in pieces: {one_line(error)}") from None
        check_shape(table, path, self._options)
        if self._options.header and may_be_twice(list(map(str, table.columns))):
            raise NotInPieces(f"{path}: names of columns that may be there twice can't be read in pieces")
        return table

    def _text(self, piece: Piece) -> tuple[bytes, bytes]:
        if self._options.encoding.startswith(("utf-16", "utf-32")):
            raise NotInPieces(f"{piece.path}: {self._options.encoding} can't be read in pieces")
        return header_and_lines(piece.path, piece.number, piece.of, self._options.header)

    @staticmethod
    def _groups(path: Path) -> tuple[int, int]:
        """How many groups of rows a Parquet file has, and their bytes."""
        with _open_parquet(path) as file:
            groups: list[Any] = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
            return len(groups), sum(group.total_byte_size for group in groups)


@contextlib.contextmanager
def _open_parquet(path: Path) -> Iterator[Any]:
    with open_arrow(path) as file:
        import pyarrow.parquet

        yield pyarrow.parquet.ParquetFile(file)
