"""The folder that a run leaves behind: its options, metrics, checkpoints and model. Rank 0 alone has one."""

import contextlib
import dataclasses
import datetime
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from ddp_numpy.runs.model_file import save_model
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot
from ddp_numpy.runs.store import CheckpointStore, newest_snapshot
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import FolderLock, atomic_write, remove_temporaries
from ddp_numpy.training.metrics import Epoch
from ddp_numpy.nn import Sequential

METRICS, CONFIG, CHECKPOINTS, MODEL = "metrics.jsonl", "config.toml", "checkpoints", "model.npz"

Complaint = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run goes on from."""

    folder: Path | None
    """Of the run; None for a new one named after the time."""
    snapshot: Snapshot | None
    """Where training stands; None at its beginning."""
    path: Path | None = None
    """The file that the snapshot was read from."""
    again: bool = False
    """Whether the folder may hold a run already: the one that is gone on with."""


def find_start(resume: str | None, out: Path | None, complaint: Complaint) -> Start:
    """What --resume and --out mean. Changes nothing. Raises InputError where there is nothing whole to go on from.

    resume: "auto", the newest checkpoint of out, or the beginning if there is none yet; the path of a run's folder
    or of a checkpoint; or None. complaint: called with a line for each damaged checkpoint that is passed over.
    """
    if resume is None:
        return Start(out, None)
    if resume == "auto":
        if out is None:
            raise InputError("--resume auto: give the --out of the run to go on with")
        found = _newest(out, complaint)
        return Start(out, found[1], found[0], again=True) if found else Start(out, None, again=True)
    path = Path(resume)
    if path.is_dir():
        found = _newest(path, complaint)
        if found is None:
            raise InputError(f"--resume {path}: has no {CHECKPOINTS} to go on from")
        path, home = found[0], path
    else:
        found, home = (path, read_snapshot(path)), path.absolute().parent.parent
    again = out is None or (out.exists() and home.exists() and out.samefile(home))
    return Start(out or home, found[1], path, again)


def _newest(folder: Path, complaint: Complaint) -> tuple[Path, Snapshot] | None:
    found = newest_snapshot(folder / CHECKPOINTS, complaint)
    if found is None and any((folder / CHECKPOINTS).glob("*.npz")):
        raise InputError(f"{folder / CHECKPOINTS}: no checkpoint there is whole; choose another --out to begin anew")
    return found


class RunFolder:
    """A run's folder, locked against other jobs while it is written to."""

    def __init__(
        self, start: Start, options: dict[str, Any], facts: dict[str, Any], keep: int | None, complaint: Complaint
    ) -> None:
        """Make or open it, and write the options.

        facts: what checkpoints are to tell, besides the options, to whoever goes on with the run; keep: as of
        CheckpointStore; complaint: told of what can't be written, from any thread. Raises InputError where the folder
        can't be written, or holds another run, or another job writes to it.
        """
        self.path = start.folder or _unused_folder(Path("runs"))
        self._complaint = complaint
        self._unwritten = ""
        best = start.snapshot.facts["best"] if start.snapshot else None
        self._facts = {"options": options, "best": best, **facts}
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
            try:
                if not start.again:
                    self._refuse_another_run()
                remove_temporaries(self.path)  # of a run that was killed
                with atomic_write(self.path / CONFIG) as file:
                    tomli_w.dump(options, file)
                self._keep_epochs(start.snapshot.epoch if start.snapshot else 0)
                self._checkpoints = CheckpointStore(self.path / CHECKPOINTS, keep, complaint)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise InputError(
                f"{self.path}: can't write there: {error.strerror or error}; choose another --out"
            ) from error

    def add_epoch(self, epoch: Epoch) -> bool:
        """Add a line to the metrics, and return whether no epoch before was better by validation accuracy.

        A line that can't be written is tried again with the next.
        """
        self._unwritten += json.dumps(epoch.as_dict(), allow_nan=False) + "\n"
        try:
            self._append_unwritten()
        except OSError as error:
            self._complaint(f"{self.path / METRICS}: can't write: {error.strerror or error}; trying again next epoch")
        best = self._facts["best"]
        if best is not None and epoch.valid_accuracy <= best["valid_accuracy"]:
            return False
        self._facts["best"] = {"epoch": epoch.number, "valid_accuracy": epoch.valid_accuracy}
        return True

    def save(self, snapshot: Snapshot, number: int, best: bool = False) -> None:
        """Have a checkpoint written in the background, as CheckpointStore.save does."""
        facts = self._facts.copy()
        self._checkpoints.save(number, dataclasses.replace(snapshot, facts=facts), best)

    def how_to_go_on(self) -> str:
        """A sentence for a run that ends before its time, once all its checkpoints are written."""
        self._checkpoints.flush()
        if self._checkpoints.error is not None:
            return f"Its last checkpoint could not be written: {self._checkpoints.error.strerror}"
        if not any((self.path / CHECKPOINTS).glob("*.npz")):
            return "No checkpoint was due yet"
        return f"Go on with --resume auto --out {self.path}"

    def finish(self, model: Sequential) -> None:
        """Write the trained model and all that is not written yet. Raises InputError where that can't be."""
        save_model(model, self.path / MODEL)
        try:
            self._append_unwritten()
        except OSError as error:
            raise InputError(f"{self.path / METRICS}: can't write: {error.strerror or error}") from error

    def close(self) -> None:
        """Finish writing checkpoints, and let other jobs in."""
        self._checkpoints.close()
        self._lock.release()

    def _refuse_another_run(self) -> None:
        for name in (METRICS, MODEL, CHECKPOINTS):
            if (self.path / name).exists():
                raise InputError(
                    f"{self.path}: holds {name} of another run; choose another folder with --out, or go on with "
                    "that run by --resume auto"
                )

    def _keep_epochs(self, epochs: int) -> None:
        """Of the metrics, keep the lines of so many epochs: later ones will be made again, and may be torn."""
        path = self.path / METRICS
        if not path.exists():
            return
        kept = []
        for line in path.read_bytes().splitlines(keepends=True):
            with contextlib.suppress(ValueError, TypeError, KeyError):  # torn
                if json.loads(line)["epoch"] <= epochs:
                    kept.append(line)
        with atomic_write(path) as file:
            file.writelines(kept)

    def _append_unwritten(self) -> None:
        lines = self._unwritten.encode()
        with open(self.path / METRICS, "ab", buffering=0) as file:
            size = file.tell()
            if file.write(lines) < len(lines):
                file.truncate(size)  # no half line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._unwritten = ""


def _unused_folder(parent: Path) -> Path:
    """A folder named after the time, with a number behind it if another run began in the same second."""
    stem = f"{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder, number = parent / stem, 1
    while folder.exists():
        number += 1
        folder = parent / f"{stem}_{number}"
    return folder
