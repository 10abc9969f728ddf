"""Labelled rows from CSV files, gzipped or not."""

import contextlib
import gzip
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.dataset import Array, check_labels, compact_features

if TYPE_CHECKING:
    import pandas as pd


def read_csv(path: Path, label_column: str | None = None) -> tuple[Array, Array]:
    """The features (n, d) and labels (n,) of a CSV file with a header line.

    The label column is label_column; if that is None, the column called `label`, else the first. Raises InputError for
    a value that can't be used, and names its row (row 1 is the first below the header) and its column. Raises OSError
    as open() does.
    """
    import pandas as pd  # here, because it takes longer to load than cached data does

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            _check_text(path)
            table = _parse(path)
    except pd.errors.ParserWarning:
        raise InputError(f"{path}: its rows have more fields than its header line; name every column") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty; a header line and rows of numbers are needed") from None
    except pd.errors.ParserError as error:
        if "out of memory" in str(error):
            raise MemoryError from None
        raise InputError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not a text file in UTF-8; save it so, and name gzipped files .csv.gz") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: the gzip file is cut short or damaged ({error}); copy it again") from None
    check_shape(table, path)
    label = choose_label_column(table, path, label_column)
    if may_be_twice(label, table) and (_parse(path, header=None, rows=1) == label).to_numpy().sum() > 1:
        raise InputError(f"{path}: more than one column is called {label!r}; keep one of them")
    _make_numbers(table, path)
    features = table.drop(columns=label)
    labels = check_labels(table[label].to_numpy(), path)
    return compact_features(features.to_numpy(), path, list(features.columns)), labels


def _parse(path: Path, header: Literal["infer"] | None = "infer", rows: int | None = None) -> "pd.DataFrame":
    """The table as pandas reads it. header: None if the first line is a row like the others; rows: only so many."""
    import pandas as pd

    with _open(path) as file:
        # Without index_col=False a row longer than the header would silently shift all columns by one.
        return pd.read_csv(file, index_col=False, low_memory=False, header=header, nrows=rows)


@contextlib.contextmanager
def _open(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Open a CSV file, gzipped or not, to read its text."""
    with open_regular(path) as file:
        yield gzip.GzipFile(fileobj=file) if path.name.endswith(".gz") else file


def _check_text(path: Path) -> None:
    """Raise InputError for a NUL: pandas 2 takes it for the end of a field, and so 1\\x002 for 1."""
    line = 1
    with _open(path) as file:
        while block := file.read(2**20):
            if (position := block.find(b"\0")) >= 0:
                line += block.count(b"\n", 0, position)
                raise InputError(
                    f"{path}: line {line} holds a NUL: not a text file in UTF-8, or not all of it; copy it again"
                )
            line += block.count(b"\n")


def check_shape(table: "pd.DataFrame", path: Path) -> None:
    """Raise InputError unless there are a header line, at least two columns and at least one row."""
    if all(_is_number(name) for name in table.columns):
        raise InputError(f"{path}: its first line holds numbers; add a header line that names the columns")
    if len(table.columns) < 2:
        raise InputError(f"{path}: has one column; a label and at least one feature are needed")
    if table.empty:
        raise InputError(f"{path}: has a header line but no rows")


def choose_label_column(table: "pd.DataFrame", path: Path, wanted: str | None) -> str:
    """The wanted column, else the one called `label`, else the first. Raises InputError if it can't hold labels."""
    if wanted is not None and wanted not in table.columns:
        some = one_line(", ".join(map(str, table.columns[:5])) + (" …" if len(table.columns) > 5 else ""))
        raise InputError(f"{path}: no label column {wanted!r}; its columns are {some}: choose with --label-column")
    if wanted is None:
        wanted = "label" if "label" in table.columns else str(table.columns[0])
        if table[wanted].nunique() == 1 and wanted != "label":
            raise InputError(
                f"{path}: no label column: none is called 'label', and the first, {wanted!r}, has one value in "
                "all rows; name it with --label-column"
            )
    return wanted


def may_be_twice(label: str, table: "pd.DataFrame") -> bool:
    """Whether two columns may have this name. pandas calls the second of them `label.1`: it would be a feature."""
    return f"{label}.1" in table.columns


def _make_numbers(table: "pd.DataFrame", path: Path) -> None:
    """Give every column a number type: pandas keeps whole numbers beyond 64 bits as text.

    Raises InputError for the first value, column by column, that is text, missing or infinite.
    """
    import pandas as pd

    large = {}
    for name, column in table.items():
        if column.dtype.kind in "iu":
            continue
        if column.dtype.kind == "f":
            numbers = column.to_numpy()
        else:
            numbers = large[name] = pd.to_numeric(column.astype(str), errors="coerce").to_numpy(np.float64)
        finite = np.isfinite(numbers)
        if finite.all():
            continue
        row = int(np.argmin(finite))
        value = column.iloc[row]
        if pd.isna(value):
            what = "a value is missing"
        else:
            what = f"{str(value)!r} is not a {'finite ' if np.isinf(numbers[row]) else ''}number"
        raise InputError(f"{path}: row {row + 1}, column {str(name)!r}: {what}; correct or drop the row")
    for name, numbers in large.items():
        table[name] = numbers


def _is_number(name: object) -> bool:
    try:
        float(str(name))
    except ValueError:
        return False
    return True
