"""What marks a folder as a run of this package: its run.json, which also notes how each start of the run was made."""

import contextlib
import dataclasses
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import HIDDEN, atomic_write, open_regular

RUN, CONFIG, METRICS, CHECKPOINTS, MODEL = "run.json", "config.toml", "metrics.jsonl", "checkpoints", "model.npz"
TEST = "test.json"  # if there were rows to test
PROGRESS = "progress.json"  # while it trains, if that takes longer than a second
"""What lies in a run's folder. All are files, but CHECKPOINTS is a folder."""

_FORMAT = "ddp_numpy run 1"
_DAMAGE = (KeyError, TypeError, ValueError, RecursionError, MemoryError)
"""What may be raised if run.json is not what `Run.write` wrote."""


@dataclasses.dataclass(frozen=True)
class Run:
    """The contents of run.json."""

    id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    """Eight random bytes. The names of the run's hidden files have it in them."""
    starts: tuple[dict[str, Any], ...] = ()
    """One entry for each start of the run, as `circumstances` makes it."""

    @property
    def owner(self) -> str:
        """Of the run's hidden files, as `atomic_write` takes it."""
        return f"run_{self.id}"

    def started(self, circumstances: dict[str, Any]) -> "Run":
        """The same run with one more start."""
        return dataclasses.replace(self, starts=(*self.starts, circumstances))

    def write(self, folder: Path) -> None:
        """Write run.json, completely or not at all. Raises OSError as open() does."""
        text = json.dumps({"format": _FORMAT, "id": self.id, "starts": self.starts}, indent=1)
        with atomic_write(folder / RUN, self.owner) as file:
            file.write(f"{text}\n".encode())


def read_run(folder: Path) -> Run | None:
    """What run.json in a folder says; None if there is no such file.

    Raises InputError if it is damaged, of another format or no file, and OSError as open() does.
    """
    path = folder / RUN
    try:
        with open_regular(path) as file:
            found = json.load(file)
        if re.fullmatch(r"ddp_numpy run \d+", found["format"]) is None:
            raise ValueError("another format")
        if found["format"] != _FORMAT:
            raise InputError(
                f"{path}: has the format {found['format']!r}; this version reads {_FORMAT!r}; choose another --out"
            )
        if re.fullmatch("[0-9a-f]{16}", found["id"]) is None:
            raise ValueError("no id")
        starts = tuple(map(dict, found["starts"]))
        json.dumps(starts, indent=1)  # as it will be written again
        return Run(found["id"], starts)
    except FileNotFoundError:
        return None
    except _DAMAGE as error:
        raise InputError(
            f"{path}: damaged, or not of this package ({error or type(error).__name__}); choose another --out, or "
            "remove the file, if this is a run that has checkpoints to resume from"
        ) from None


def is_empty(folder: Path) -> bool:
    """Whether a folder is missing, or holds nothing but hidden files of this package. Raises OSError."""
    try:
        with os.scandir(folder) as entries:
            return all(entry.name.startswith(HIDDEN) for entry in entries)
    except FileNotFoundError:
        return True


def refuse_links(folder: Path) -> None:
    """Raise InputError if a name of a run's folder is a link, a device or the like, which a stranger may have made.

    What is written to a link goes to its target, which may be anything of the user's.
    """
    for name in (RUN, CONFIG, METRICS, CHECKPOINTS, MODEL, PROGRESS):
        with contextlib.suppress(FileNotFoundError):
            mode = os.lstat(folder / name).st_mode
            if not (stat.S_ISDIR(mode) if name == CHECKPOINTS else stat.S_ISREG(mode)):
                kind = "folder" if name == CHECKPOINTS else "file"
                raise InputError(f"{folder / name}: a link, or no regular {kind}; remove it, or choose another --out")


@contextlib.contextmanager
def written_to(folder: Path) -> Iterator[None]:
    """A block that reads and writes a run's folder: its OSErrors become InputErrors."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{folder}: can't write there: {error.strerror or error}; choose another --out") from error
