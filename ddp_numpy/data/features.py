"""From the columns of a table as pandas reads them to numbers."""

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.columns import texts_of
from ddp_numpy.base.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from ddp_numpy.data.table import TableOptions

Array = npt.NDArray[Any]
_MOST_CATEGORIES = 100
_LEAST_ROWS = 2  # of a category, on average
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}([ T].*)?")


def to_plain_numbers(frame: "pd.DataFrame") -> None:
    """Give columns of numbers that pandas keeps in types of its own, with marks for missing values, NumPy's types."""
    for name, column in frame.items():
        if isinstance(column.dtype, np.dtype) or column.dtype.kind not in "iufb":
            continue
        if column.isna().any():
            frame[name] = column.to_numpy(np.float64, na_value=np.nan)
        else:
            frame[name] = column.to_numpy(bool if column.dtype.kind == "b" else f"{column.dtype.kind}8")


def make_numbers(
    table: "pd.DataFrame", path: Path, options: "TableOptions", is_whole: bool = True
) -> tuple[Array, tuple[tuple[str, ...], ...]]:
    """The numbers (n, d) of columns, and the categories of each: see Table. NaN is a missing value, if it may be.

    is_whole: whether it has all rows, so that a column without any value is refused. True is 1, and False 0. pandas
    keeps whole numbers beyond 64 bits as text. Raises InputError for the first value, column by column, that is no
    number and no category, missing, or infinite.
    """
    categories: list[tuple[str, ...]] = []
    changed: dict[Any, Array] = {}
    for name, column in table.items():
        texts: tuple[str, ...] = ()
        if str(name) in options.named_categorical:
            changed[name], texts = _coded(column)
        elif column.dtype.kind == "b":
            changed[name] = column.to_numpy(np.uint8)
        elif column.dtype.kind not in "iuf":
            changed[name], texts = _of_text(column, path, options, is_whole)
        categories.append(texts)
        _check_finite(column, changed.get(name), path, options.missing == "mean", is_whole)
    for name, numbers in changed.items():
        table[name] = numbers
    return table.to_numpy(), tuple(categories) if any(categories) else ()


def _coded(column: "pd.Series") -> tuple[Array, tuple[str, ...]]:
    """The numbers (n,) of a column's categories, NaN where it is missing, and the categories, sorted."""
    import pandas as pd

    numbers, values = pd.factorize(column)
    texts, places = np.unique(texts_of(np.asarray(values, object)), return_inverse=True)
    codes = np.append(places, -1)[numbers]  # pandas' number of a missing value is -1, too
    return codes if (codes >= 0).all() else np.where(codes < 0, np.nan, codes), tuple(texts.tolist())


def most_categories(rows: int) -> float:
    """Text with more different values than this is not taken for categories, unless it is asked for by name."""
    return min(_MOST_CATEGORIES, rows / _LEAST_ROWS)


def _of_text(column: "pd.Series", path: Path, options: "TableOptions", is_whole: bool) -> tuple[Array, tuple[str, ...]]:
    """The numbers that text says, and (); or those of its categories, and these.

    Raises InputError for text that is neither, as far as one part of a column can tell that.
    """
    import pandas as pd

    present = column[column.notna()]
    numbers = pd.to_numeric(column.astype(str), errors="coerce").to_numpy(np.float64)
    if not len(present) or np.isnan(numbers[column.notna().to_numpy()]).mean() <= 0.5:
        return numbers, ()
    value, different = str(present.iloc[0]), present.nunique()
    leave_out = f"leave the column out with --drop {shlex.quote(str(column.name))}"
    if column.dtype.kind in "mM" or _DATE.fullmatch(value.strip()):
        what = f"{value!r} is a date, and no number; {leave_out}"
    elif "auto" not in options.categorical:
        what = f"{value!r} is no number, and most others are none; {leave_out}, or take it for categories with "
        what += f"--categorical {shlex.quote(str(column.name))}"
    elif different > (most_categories(len(present)) if is_whole else _MOST_CATEGORIES):
        what = f"{value!r} is text, of which there are {different:,} different ones in {len(present):,} rows; "
        what += leave_out
    else:
        return _coded(column)
    raise InputError(f"{path}: row {present.index[0]}, column {str(column.name)!r}: {what}")


def _check_finite(
    column: "pd.Series", numbers: Array | None, path: Path, may_miss: bool, may_not_be_empty: bool
) -> None:
    """Raise InputError for a value of a column that is none of its numbers: text, missing, or infinite.

    numbers (n,): those of the column, if it does not hold them itself.
    """
    if column.dtype.kind in "iub":
        return
    numbers = column.to_numpy() if numbers is None else numbers
    missing = column.isna().to_numpy()
    if may_not_be_empty and missing.all():
        raise InputError(
            f"{path}: column {str(column.name)!r} is empty; leave it out with --drop {shlex.quote(str(column.name))}"
        )
    wrong = ~np.isfinite(numbers)
    if may_miss:
        wrong &= ~missing
    if not wrong.any():
        return
    at = int(np.argmax(wrong))
    if missing[at]:
        what = "a value is missing; correct or drop the row, or give --missing mean or --missing drop"
    else:
        kind = "finite number" if np.isinf(numbers[at]) else "number"
        what = f"{str(column.iloc[at])!r} is not a {kind}; correct or drop the row"
    raise InputError(f"{path}: row {column.index[at]}, column {str(column.name)!r}: {what}")
