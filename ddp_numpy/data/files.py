"""From files to one table: a file of text, Parquet or Feather, or several that are parts of one."""

import glob
from pathlib import Path
from typing import TYPE_CHECKING

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.csv import read_text
from ddp_numpy.data.idx import IMAGES, TRAIN
from ddp_numpy.data.table import DEFAULTS, Table, TableOptions, make_table
from ddp_numpy.data.text import is_text

if TYPE_CHECKING:
    import pandas as pd

_PARQUET, _FEATHER = (".parquet", ".pq"), (".feather", ".arrow")


def is_table(path: Path) -> bool:
    """Whether its name is that of a file with a table."""
    return is_text(path) or path.name.endswith((*_PARQUET, *_FEATHER))


def table_files(source: Path) -> list[Path]:
    """The files of a table, sorted by name; [] if the source is none, or is not there.

    source: a file; a folder of files, of which those do not count that begin with a dot or an underscore, as other
    programs leave them there; or a pattern such as data/part-*.csv. Raises InputError for a pattern that no file fits.
    """
    if source.is_dir():
        files = sorted(source.iterdir())
        if any(path.name.startswith(f"{TRAIN}-{IMAGES}") for path in files):  # MNIST's, whatever lies beside them
            return []
        return [path for path in files if is_table(path) and path.name[0] not in "._"]
    if glob.has_magic(str(source)) and not source.exists():
        files = sorted(map(Path, glob.glob(str(source))))
        if not files:
            raise InputError(f"{source}: no file fits this pattern")
        if other := next((path for path in files if not is_table(path)), None):
            raise InputError(f"{other}: is no table, but fits the pattern {source}; choose another pattern")
        return files
    return [source] if is_table(source) and source.exists() else []


def read_table(source: Path, options: TableOptions = DEFAULTS) -> Table:
    """The labelled rows of a table's files. Raises InputError and OSError as `read_frame` and `make_table` do."""
    return make_table(read_frame(source, options), source, options)


def read_frame(source: Path, options: TableOptions) -> "pd.DataFrame":
    """The columns of a table's files, as pandas understands them. Rows count on from one file to the next.

    Raises InputError for what is no such table, and for files with other columns than the first; and OSError as open()
    does.
    """
    import pandas as pd

    files = table_files(source) or [source]
    frames: list[pd.DataFrame] = []
    for path in files:
        frame = read_text(path, options) if is_text(path) else _read_columns(path)
        if frames and set(frame.columns) != set(frames[0].columns):
            odd = sorted(map(str, set(frame.columns) ^ set(frames[0].columns)))[0]
            raise InputError(f"{path}: column {odd!r} is not in both this and {files[0]}; parts need the same columns")
        frames.append(frame if not frames else frame[frames[0].columns])
    if len(frames) == 1:
        return frames[0]
    joined = pd.concat(frames, ignore_index=True)
    joined.attrs = frames[0].attrs
    return joined


def _read_columns(path: Path) -> "pd.DataFrame":
    """The table of a Parquet or Feather file. Raises InputError for a damaged one, and OSError as open() does."""
    import pandas as pd

    try:
        import pyarrow
    except ImportError:
        raise InputError(f"{path}: reading it needs pyarrow: pip install pyarrow") from None
    with open_regular(path) as file:
        try:
            frame = (pd.read_parquet if path.name.endswith(_PARQUET) else pd.read_feather)(file)
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            if getattr(error, "errno", None) is not None:  # of the system
                raise
            raise InputError(f"{path}: damaged, or not of the kind that its name says ({one_line(error)})") from None
    if frame.empty:
        raise InputError(f"{path}: has no rows")
    return frame
