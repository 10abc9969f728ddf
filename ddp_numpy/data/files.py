"""From files to one table: a file of text, Parquet or Feather, or several that are parts of one."""

import contextlib
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.messages import one_line
from ddp_numpy.data.csv import read_text
from ddp_numpy.data.idx import IMAGES, TRAIN
from ddp_numpy.data.table import DEFAULTS, Table, TableOptions, make_table
from ddp_numpy.data.text import is_text

if TYPE_CHECKING:
    import pandas as pd

PARQUET, _FEATHER = (".parquet", ".pq"), (".feather", ".arrow")


def is_table(path: Path) -> bool:
    """Whether its name is that of a file with a table."""
    return is_text(path) or path.name.endswith((*PARQUET, *_FEATHER))


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


def refuse_stdin(path: Path) -> None:
    """Raise InputError for the name that stands for standard input elsewhere."""
    if str(path) == "-":
        raise InputError(
            "-: rows can't come from standard input: mpirun passes it to one rank alone, and what reads them may read "
            "them twice; write them to a file"
        )


def unknown_kind(path: Path) -> InputError:
    """What to say of a source that is neither a table nor anything else that can be read."""
    if not path.exists():
        return InputError(f"{path}: no such file or folder; --data takes a path, 'digits' or 'mnist'")
    return InputError(f"{path}: unknown kind of file; give a .csv, .tsv, .txt, .parquet, .feather or .npz, or a folder")


def read_table(source: Path, options: TableOptions = DEFAULTS, files: Sequence[Path] = ()) -> Table:
    """The labelled rows of a table's files. Raises InputError and OSError as `read_frame` and `make_table` do."""
    return make_table(read_frame(source, options, files), source, options)


def read_frame(source: Path, options: TableOptions, files: Sequence[Path] = ()) -> "pd.DataFrame":
    """The columns of a table's files, as pandas understands them. Rows count on from one file to the next.

    files: which these are, if that is known. Raises InputError for what is no such table, and for files with other
    columns than the first; and OSError as open() does.
    """
    import pandas as pd

    files = files or table_files(source) or [source]
    frames: list[pd.DataFrame] = []
    for path in files:
        frame = read_text(path, options) if is_text(path) else _read_columns(path)
        frames.append(in_order(frame, frames[0].columns if frames else frame.columns, path, files[0]))
    if len(frames) == 1:
        return frames[0]
    joined = pd.concat(frames, ignore_index=True)
    joined.attrs = frames[0].attrs
    return joined


def in_order(frame: "pd.DataFrame", columns: Any, path: Path, first: Path) -> "pd.DataFrame":
    """A part of a table in the order of these columns, which the first file has. Raises InputError for others."""
    if list(frame.columns) == list(columns):
        return frame
    if set(frame.columns) != set(columns):
        odd = sorted(map(str, set(frame.columns) ^ set(columns)))[0]
        raise InputError(f"{path}: column {odd!r} is not in both this and {first}; parts need the same columns")
    ordered: pd.DataFrame = frame[columns]
    return ordered


@contextlib.contextmanager
def open_arrow(path: Path) -> Iterator[IO[bytes]]:
    """Open a file to read it with pyarrow. Its errors in the block become InputErrors, but not those of the system."""
    try:
        import pyarrow
    except ImportError:
        raise InputError(f"{path}: reading it needs pyarrow: pip install pyarrow") from None
    with open_regular(path) as file:
        try:
            yield file
        except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
            if getattr(error, "errno", None) is not None:  # of the system
                raise
            raise InputError(f"{path}: damaged, or not of the kind that its name says ({one_line(error)})") from None


def _read_columns(path: Path) -> "pd.DataFrame":
    """The table of a Parquet or Feather file. Raises InputError for a damaged one, and OSError as open() does."""
    import pandas as pd

    with open_arrow(path) as file:
        frame = (pd.read_parquet if path.name.endswith(PARQUET) else pd.read_feather)(file)
    if frame.empty:
        raise InputError(f"{path}: has no rows")
    return frame
