"""The folder that a run leaves behind: its options, metrics, checkpoints and model. Rank 0 alone writes it."""

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import shlex
from pathlib import Path
from types import TracebackType
from typing import Any

import tomli_w

from ddp_numpy.base.errors import DivergedError, InputError, Interrupted
from ddp_numpy.base.files import FolderLock, atomic_write, remove_temporaries
from ddp_numpy.base.threads import blas
from ddp_numpy.nn import Sequential
from ddp_numpy.runs.model_file import save_model
from ddp_numpy.runs.resume import CHECKPOINTS, Complaint, Start
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.runs.store import BEST, CheckpointStore, checkpoints_by_step, set_aside_later
from ddp_numpy.settings import Settings
from ddp_numpy.training.metrics import Epoch
from ddp_numpy.training.trainer import Trainer

METRICS, CONFIG, MODEL = "metrics.jsonl", "config.toml", "model.npz"


class NoRecord:
    """What ranks other than rank 0 have in place of a RunFolder: they write nothing."""

    def after_step(self, trainer: Trainer) -> None:
        """Do nothing."""

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Do nothing."""

    def finish(self, model: Sequential) -> None:
        """Do nothing."""

    def __enter__(self) -> "NoRecord":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class RunFolder:
    """A run's folder, locked against other jobs while it is written to. As a context it is closed at the end."""

    def __init__(self, start: Start, settings: Settings, identity: dict[str, Any], complaint: Complaint) -> None:
        """Make or open it, and write the options.

        identity: as `resume.identity` returns it, for checkpoints to keep; complaint: told of what can't be written,
        from any thread. Raises InputError if the folder can't be written, or holds another run, or another job writes
        to it.
        """
        self.path = start.folder or _unused_folder(Path("runs"))
        self._epochs = settings.training.epochs
        self._every, self._unit = settings.output.checkpoint_every
        self._complaint = complaint
        self._unwritten = ""
        self._more = ""  # options of this start that the checkpoint it began from does not have
        if start.snapshot and start.snapshot.facts["options"].get("epochs") != self._epochs:
            self._more = f" --epochs {self._epochs}"
        best = start.snapshot.facts["best"] if start.snapshot else None
        options = settings.recorded()
        overrides = start.overrides(settings)
        self._facts: dict[str, Any] = {"options": options, "best": best, "trajectory": identity, "blas": blas()[0]}
        self._facts["overrides"] = overrides
        self._overridden = {override["option"].replace("-", "_"): override["now"] for override in overrides}
        keep = None if settings.output.keep == "all" else settings.output.keep
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path)
            try:
                if not start.may_hold_run:
                    self._refuse_another_run()
                remove_temporaries(self.path)  # of a run that was killed
                with atomic_write(self.path / CONFIG) as file:
                    tomli_w.dump(options, file)
                self._keep_epochs(start.snapshot.epoch if start.snapshot else 0)
                self._checkpoints = CheckpointStore(self.path / CHECKPOINTS, keep, complaint)
                if start.snapshot and start.path and start.path.parent.samefile(self.path / CHECKPOINTS):
                    set_aside_later(start.path, start.snapshot, complaint)
            except BaseException:
                self._lock.release()
                raise
        except OSError as error:
            raise InputError(
                f"{self.path}: can't write there: {error.strerror or error}; choose another --out"
            ) from error

    def after_step(self, trainer: Trainer) -> None:
        """Save a checkpoint every so many steps, and when training is about to stop."""
        if trainer.stopping or (self._unit == "steps" and trainer.steps_made % self._every == 0):
            self.save(Snapshot(trainer.epoch, trainer.step, trainer.state()), trainer.steps_made)

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Add a line to the metrics. Save a checkpoint of the best and of the last epoch, and every so many epochs."""
        best = self.add_epoch(epoch)
        last = epoch.number == self._epochs
        if best or last or (self._unit == "epochs" and epoch.number % self._every == 0):
            self.save(Snapshot(trainer.epoch, trainer.step, trainer.state()), trainer.steps_made, best)

    def add_epoch(self, epoch: Epoch) -> bool:
        """Add a line to the metrics, and return whether no epoch before was better by validation accuracy.

        If options were overridden, the line has their values, too: "lr" for example. A line that can't be written is
        tried again with the next.
        """
        self._unwritten += json.dumps(epoch.as_dict() | self._overridden, allow_nan=False) + "\n"
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
        return f"Go on with --resume auto --out {shlex.quote(str(self.path))}"

    def how_to_go_on_after(self, error: DivergedError) -> str:
        """A sentence for a run whose numbers are not finite any more: it goes on from before, at a lower rate."""
        way = self.how_to_go_on()
        if "--resume auto" not in way:
            return way
        lower = f"--override lr={self._facts['options']['lr'] / 10:g}{self._more}"
        folder, best = self.path / CHECKPOINTS, self._facts["best"]
        by_step = checkpoints_by_step(folder)
        earlier = [path for number, path in by_step.items() if number < error.steps_made]
        if by_step and len(earlier) == len(by_step):
            return f"{way} {lower}"
        # The newest checkpoint has the weights that this step failed with, and would fail with at any rate.
        if best is not None and (best["epoch"], 0) < (error.epoch, error.step) and (folder / BEST).exists():
            earlier.append(folder / BEST)
        if not earlier:
            return "The only checkpoint would fail again at any rate: begin anew, with a lower --lr and another --out"
        return (
            f"The last checkpoint would fail again at any rate: go on with --resume {shlex.quote(str(earlier[-1]))} "
            f"--out {shlex.quote(str(self.path))} {lower}"
        )

    def finish(self, model: Sequential) -> None:
        """Write the trained model, and all that is not written yet. Raises InputError if that can't be."""
        save_model(model, self.path / MODEL)
        try:
            self._append_unwritten()
        except OSError as error:
            raise InputError(f"{self.path / METRICS}: can't write: {error.strerror or error}") from error

    def close(self) -> None:
        """Finish writing checkpoints, and let other jobs in."""
        self._checkpoints.close()
        self._lock.release()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, Interrupted):
                raise Interrupted(f"{error}. {self.how_to_go_on()}") from error
            if isinstance(error, DivergedError):
                raise DivergedError(f"{error}. {self.how_to_go_on_after(error)}") from error
        finally:
            self.close()

    def __str__(self) -> str:
        return str(self.path)

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
