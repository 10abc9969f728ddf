"""The folder that a run leaves behind: its options, metrics, checkpoints and model. Rank 0 alone writes it."""

import contextlib
import dataclasses
import datetime
import errno
import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import tomli_w

from ddp_numpy.base.errors import DivergedError, InputError, Interrupted
from ddp_numpy.base.files import atomic_write, open_regular, remove_temporaries
from ddp_numpy.base.lock import FolderLock
from ddp_numpy.base.threads import blas
from ddp_numpy.nn import Sequential
from ddp_numpy.runs.beside import shown, trackers
from ddp_numpy.runs.marker import CHECKPOINTS, CONFIG, METRICS, MODEL, PROGRESS, TEST, Run, written_to
from ddp_numpy.runs.model_file import write_model
from ddp_numpy.runs.progress import Progress
from ddp_numpy.runs.resume import Complaint, Start
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.runs.store import BEST, CheckpointStore, checkpoints_by_step, in_words, later_checkpoints
from ddp_numpy.settings import Settings
from ddp_numpy.training.metrics import Epoch
from ddp_numpy.training.trainer import Trainer


class NoRecord:
    """What ranks other than rank 0 have in place of a RunFolder: they write nothing."""

    def after_step(self, trainer: Trainer) -> None:
        """Do nothing."""

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Do nothing."""

    def finish(self, model: Sequential, judged: Mapping[str, Any] | None = None) -> None:
        """Do nothing."""

    def __enter__(self) -> "NoRecord":
        return self

    def __exit__(self, *_: object) -> None:
        pass


class RunFolder:
    """A run's folder, locked against other jobs while it is written to. As a context it is closed at the end."""

    def __init__(
        self,
        start: Start,
        settings: Settings,
        identity: dict[str, Any],
        circumstances: dict[str, Any],
        steps_made: int,
        complaint: Complaint,
    ) -> None:
        """Make or open it, mark it as a run's, and write the options.

        identity: as `resume.identity` returns it, for checkpoints to keep; circumstances: of this start, for run.json;
        steps_made: before this start, since the first weights; complaint: told of what can't be written, from any
        thread. Raises InputError if the folder can't be written, holds another run or anything else, or if another job
        writes to it.
        """
        self.path = start.folder or _unused(Path("runs"))
        start = dataclasses.replace(start, folder=self.path)
        self._epochs = settings.training.epochs
        self._every, self._unit = settings.output.checkpoint_every
        self._complaint = complaint
        self._unwritten = ""
        self._trained = {"version": circumstances.get("versions", {}).get("ddp_numpy")}
        if "SHA-256 of the training rows" in identity:
            self._trained["data_sha256"] = identity["SHA-256 of the training rows"]
        self._more = ""  # options of this start that the checkpoint it began from does not have
        if start.snapshot and start.snapshot.facts["options"].get("epochs") != self._epochs:
            self._more = f" --epochs {self._epochs}"
        options, best = settings.recorded(), start.snapshot.facts["best"] if start.snapshot else None
        overrides = start.overrides(settings)
        self._facts: dict[str, Any] = {"options": options, "best": best, "trajectory": identity}
        self._facts |= {"overrides": overrides, "blas": blas()[0], "numpy": np.__version__}
        self._overridden = {override["option"].replace("-", "_"): override["now"] for override in overrides}
        keep = None if settings.output.keep == "all" else settings.output.keep
        start.run_there()  # before anything is written, even the lock's file
        with written_to(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = FolderLock(self.path, complaint)
            try:
                found = start.run_there()  # again: another job may have been faster
                if not start.may_hold_run:
                    self._refuse_another_run()
                marked = self._mark(found, circumstances)
                self._owner = marked.owner
                remove_temporaries(self.path, self._owner)  # of a start that was killed
                with atomic_write(self.path / CONFIG, self._owner) as file:
                    tomli_w.dump(options, file)
                self._put_aside(start.snapshot or Snapshot(0, 0, {}), steps_made)
                self._checkpoints = CheckpointStore(self.path / CHECKPOINTS, keep, self._owner, complaint)
                self._trackers = trackers(settings, self.path, marked.id, complaint)
                self._progress = Progress(self.path / PROGRESS, self._owner, self._epochs)
                self._beside = contextlib.ExitStack()
                self._beside.enter_context(shown(self.path, settings.output.dashboard))
            except BaseException:
                self._lock.release()
                raise

    def after_step(self, trainer: Trainer) -> None:
        """Save a checkpoint every so many steps, and when training is about to stop; tell of progress."""
        self._progress.after_step(trainer)
        if trainer.stopping or (self._unit == "steps" and trainer.steps_made % self._every == 0):
            self.save(Snapshot(trainer.epoch, trainer.step, trainer.state()), trainer.steps_made)

    def after_epoch(self, trainer: Trainer, epoch: Epoch) -> None:
        """Add a line to the metrics. Save a checkpoint of the best and of the last epoch, and every so many epochs."""
        best = self.add_epoch(epoch)
        last = epoch.number == self._epochs or trainer.ended_early
        if best or last or (self._unit == "epochs" and epoch.number % self._every == 0):
            self.save(Snapshot(trainer.epoch, trainer.step, trainer.state()), trainer.steps_made, best)

    def add_epoch(self, epoch: Epoch) -> bool:
        """Add a line to the metrics, and return whether no epoch before was better by its score on the validation rows.

        If options were overridden, the line has their values, too: "momentum" for example. A line that can't be written
        is tried again with the next.
        """
        figures = self._overridden | epoch.as_dict()
        for tracker in self._trackers:
            tracker.epoch(figures)
        self._unwritten += json.dumps(figures, allow_nan=False) + "\n"
        try:
            self._append_unwritten()
        except OSError as error:
            self._complaint(f"{self.path / METRICS}: can't write: {error.strerror or error}; trying again next epoch")
        best = self._facts["best"]
        ((name, score),) = epoch.score.items()
        self._trained |= epoch.score
        if best is not None and not score > best[name]:
            return False
        self._facts["best"] = {"epoch": epoch.number, name: score}
        return True

    def save(self, snapshot: Snapshot, number: int, best: bool = False) -> None:
        """Have a checkpoint written in the background, as CheckpointStore.save does."""
        facts = self._facts.copy()
        self._checkpoints.save(number, dataclasses.replace(snapshot, facts=facts), best)

    def how_to_go_on(self) -> str:
        """A sentence for a run that ends before its time, once all its checkpoints are written."""
        self._checkpoints.flush()
        if self._checkpoints.error is not None:
            return f"Its last checkpoint could not be written: {in_words(self._checkpoints.error)}"
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

    def finish(self, model: Sequential, judged: Mapping[str, Any] | None = None) -> None:
        """Write the trained model, and all that is not written yet; and its figures on rows to test, if there are any.

        Raises InputError if that can't be.
        """
        path = self.path / MODEL
        model.trained = self._trained.copy()
        try:
            with atomic_write(path, self._owner) as file:
                write_model(file, model)
            path = self.path / TEST
            if judged:
                with atomic_write(path, self._owner) as file:
                    file.write(json.dumps(judged).encode() + b"\n")
            path = self.path / METRICS
            self._append_unwritten()
        except OSError as error:
            raise InputError(f"{path}: can't write: {error.strerror or error}") from error

    def close(self) -> None:
        """Finish writing checkpoints, and let other jobs in."""
        self._checkpoints.close()
        self._progress.end()
        for tracker in self._trackers:
            tracker.close()
        self._beside.close()
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
        # A start that died before its first checkpoint leaves none, and maybe metrics. It may start again as it did.
        for name in (MODEL, CHECKPOINTS):
            if (self.path / name).is_file() or any((self.path / name).glob("*.npz")):
                raise InputError(
                    f"{self.path}: holds {name} of another run; choose another folder with --out, or go on with "
                    "that run by --resume auto"
                )

    def _mark(self, run: Run | None, circumstances: dict[str, Any]) -> Run:
        """Write run.json, as the first of all files. run: what the folder holds already."""
        if run is None:
            remove_temporaries(self.path, "run_*")  # of runs that were killed before they could mark the folder
        run = (run or Run()).started(circumstances)
        run.write(self.path)
        return run

    def _put_aside(self, snapshot: Snapshot, steps_made: int) -> None:
        """Move checkpoints and metrics that are later than this start to a folder of their own.

        The run makes them again, perhaps in another way. Otherwise the next --resume auto would take the newest
        checkpoint of the abandoned way.
        """
        kept, later = self._metrics_before_and_after(snapshot.epoch)
        checkpoints = later_checkpoints(self.path / CHECKPOINTS, snapshot, steps_made)
        if later or checkpoints:
            aside = _unused(self.path, "abandoned-")
            aside.mkdir()
            for path in checkpoints:
                path.rename(aside / path.name)
            if later:
                with atomic_write(aside / METRICS, self._owner) as file:
                    file.writelines(later)
            self._complaint(
                f"{self.path}: goes on after epoch {snapshot.epoch}, step {snapshot.step}; {aside} keeps the later "
                f"checkpoints ({len(checkpoints)}) and lines of metrics ({len(later)})"
            )
        if kept is not None:
            with atomic_write(self.path / METRICS, self._owner) as file:
                file.writelines(kept)

    def _metrics_before_and_after(self, epochs: int) -> tuple[list[bytes] | None, list[bytes]]:
        """The lines of so many epochs, and the later ones, without torn ones. None and none if there is no file."""
        try:
            with open_regular(self.path / METRICS) as file:
                lines = file.readlines()
        except FileNotFoundError:
            return None, []
        kept: list[bytes] = []
        later: list[bytes] = []
        for line in lines:
            try:
                (kept if json.loads(line)["epoch"] <= epochs else later).append(line)
            except (ValueError, TypeError, KeyError, RecursionError):  # torn
                continue
        return kept, later

    def _append_unwritten(self) -> None:
        lines = self._unwritten.encode()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        with open(os.open(self.path / METRICS, flags, 0o666), "ab", buffering=0) as file:
            size = file.tell()
            if file.write(lines) < len(lines):
                file.truncate(size)  # no half line
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._unwritten = ""


def _unused(parent: Path, prefix: str = "") -> Path:
    """A folder named after the time, with a number behind it if another one was made in the same second."""
    stem = f"{prefix}{datetime.datetime.now():%Y-%m-%d_%H-%M-%S}"
    folder, number = parent / stem, 1
    while folder.exists():
        number += 1
        folder = parent / f"{stem}_{number}"
    return folder
