"""Tables from files of text: fields between commas, tabs, semicolons or spaces, packed or not."""

import contextlib
import dataclasses
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.table import TableOptions
from ddp_numpy.data.text import Form, find_form, open_text

if TYPE_CHECKING:
    import pandas as pd

_FRACTION = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d+)?", re.IGNORECASE)


def read_text(path: Path, options: TableOptions) -> "pd.DataFrame":
    """The table of a file of text, in columns as pandas understands them.

    If two columns may have one name, its attrs["header"] has the names as the file has them.

    Raises InputError for what is no such table, and OSError as open() does.
    """
    form = find_form(path, options.encoding)
    with _parser_errors(path, options):
        _check_text(path, options)
        with open_text(path) as file:
            table = parse(file, options, form)
        check_shape(table, path, options)
        if options.header and may_be_twice(list(map(str, table.columns))):
            with open_text(path) as file:
                first = parse(file, dataclasses.replace(options, header=False), form, rows=1)
            table.attrs["header"] = first.iloc[0].tolist()
    return table


def stream_text(path: Path, options: TableOptions, numbers: int, texts: Sequence[str] = ()) -> "Iterator[pd.DataFrame]":
    """The same table, so many numbers at a time. Raises as `read_text` does, when it comes to what is wrong.

    texts: as in `parse`.
    """
    import pandas as pd

    form = find_form(path, options.encoding)
    with _parser_errors(path, options), open_text(path) as file:
        _check_text(path, options)
        width = parse(file, options, form, rows=1).shape[1]
    with open_text(path) as file:
        with _parser_errors(path, options):
            rows = max(1, numbers // max(1, width))
            reader = pd.read_csv(file, **_how(options, form, texts), chunksize=rows)
        while True:
            with _parser_errors(path, options):  # not around the yield: it would hold for the caller's code
                frame = next(reader, None)
            if frame is None:
                return
            check_shape(frame, path, options)
            yield _named(frame, options)


@contextlib.contextmanager
def _parser_errors(path: Path, options: TableOptions) -> Iterator[None]:
    """A block whose errors of pandas' parser become InputErrors."""
    import pandas as pd

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            yield
    except pd.errors.ParserWarning:
        raise InputError(f"{path}: its rows have more fields than its header line; name every column") from None
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty; a header line and rows of numbers are needed") from None
    except pd.errors.ParserError as error:
        if "out of memory" in str(error):
            raise MemoryError from None
        raise InputError(f"{path}: not a CSV file: {' '.join(str(error).split())}") from None
    except UnicodeError:
        raise InputError(
            f"{path}: not a text file in {options.encoding.upper()}; of an older program, --encoding latin-1 may read "
            "it; name packed files .csv.gz, .csv.bz2, .csv.xz or .csv.zst"
        ) from None


def parse(
    file: IO[bytes], options: TableOptions, form: Form, rows: int | None = None, texts: Sequence[str] = ()
) -> "pd.DataFrame":
    """The table as pandas reads it; without a header line columns are called 1, 2, 3 …

    rows: only so many; texts: columns whose values are kept as they stand, even if they look like numbers.
    """
    import pandas as pd

    return _named(pd.read_csv(file, **_how(options, form, texts), nrows=rows), options)


def _how(options: TableOptions, form: Form, texts: Sequence[str]) -> dict[str, Any]:
    """What pandas' reader is to be told."""
    return {
        "index_col": False,  # without it, a row longer than the header would silently shift all columns by one
        "low_memory": False,  # else a column may have values of several types
        "header": "infer" if options.header else None,
        "encoding": options.encoding,
        "sep": form.delimiter,
        "decimal": form.decimal,
        "dtype": {name if options.header else int(name) - 1: str for name in texts},
    }


def _named(table: "pd.DataFrame", options: TableOptions) -> "pd.DataFrame":
    if not options.header:
        table.columns = [str(number) for number in range(1, len(table.columns) + 1)]
    return table


def _check_text(path: Path, options: TableOptions) -> None:
    """Raise InputError for a NUL: pandas 2 takes it for the end of a field, and so 1\\x002 for 1."""
    if options.encoding.startswith(("utf-16", "utf-32")):  # whose letters have some
        return
    line = 1
    with open_text(path) as file:
        while block := file.read(2**20):
            if (position := block.find(b"\0")) >= 0:
                line += block.count(b"\n", 0, position)
                raise InputError(
                    f"{path}: line {line} holds a NUL: not a text file in UTF-8, or not all of it; copy it again"
                )
            line += block.count(b"\n")


def check_shape(table: "pd.DataFrame", path: Path, options: TableOptions) -> None:
    """Raise InputError unless there are at least two columns and at least one row, and names in a header line."""
    check_names(list(map(str, table.columns)), path, options)
    if table.empty:
        raise InputError(f"{path}: has a header line but no rows")


def check_names(names: list[str], path: Path, options: TableOptions) -> None:
    """Raise InputError unless there are at least two columns, if labels are among them; and names in a header line."""
    if options.header and _is_row(names):
        raise InputError(
            f"{path}: its first line holds numbers; add a header line that names the columns, or give --no-header"
        )
    if len(names) < 2 and options.labelled:
        raise InputError(
            f"{path}: has one column; a label and at least one feature are needed, with a comma, tab, semicolon or "
            "bar between"
        )


def may_be_twice(names: list[str]) -> bool:
    """Whether two columns may have one name. pandas calls the second of two `label` `label.1`."""
    return any(f"{name}.1" in names for name in names)


def _is_row(names: list[str]) -> bool:
    """Whether a header line is none: all its fields are numbers, or one has a fraction.

    Numbers from 0 on are how pandas calls columns that got no names, and 1.1 how it calls a second column 1.
    """
    has_fraction = any(_FRACTION.fullmatch(name) and name.rpartition(".")[0] not in names for name in names)
    return has_fraction or (all(map(_is_number, names)) and names != [str(number) for number in range(len(names))])


def _is_number(name: object) -> bool:
    try:
        float(str(name))
    except ValueError:
        return False
    return True
