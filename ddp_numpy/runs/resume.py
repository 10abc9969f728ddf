"""What --resume and --out mean: where a run starts from, and whether it may go on from there."""

import dataclasses
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.threads import blas
from ddp_numpy.data import Dataset
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.runs.marker import CHECKPOINTS, CONFIG, Run, is_empty, read_run, refuse_links, written_to
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot
from ddp_numpy.runs.store import newest_snapshot
from ddp_numpy.settings import OPTIONS, Settings

Complaint = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Start:
    """What a run starts from. Only rank 0 has read it; on the other ranks it is a start from nothing."""

    folder: Path | None = None
    """Where the run writes; None for a new folder named after the time."""
    snapshot: Snapshot | None = None
    """Where training stands; None at its beginning."""
    path: Path | None = None
    """The file that the snapshot was read from."""
    may_hold_run: bool = False
    """Whether the folder may hold a run already: the one that is resumed."""
    unmarked: bool = False
    """Whether that run was begun by a version of this package that did not write run.json yet."""

    def run_there(self) -> Run | None:
        """The run that the folder holds already; None if there is none yet, or an unmarked one. Changes nothing.

        Raises InputError if the folder is not empty and no run's, or if names in it are links.
        """
        if self.folder is None:
            return None
        with written_to(self.folder):
            run = read_run(self.folder)
            if run is None and not self.unmarked and not is_empty(self.folder):
                raise InputError(
                    f"{self.folder}: not empty, and without the run.json of a run of this package; choose a new folder "
                    "with --out"
                )
            refuse_links(self.folder)
        return run

    def settings(self, settings: Settings, given: set[str]) -> Settings:
        """The settings, with those of the resumed run for what is not given: names of options.

        Raises InputError if the run's can't be used, or if --override has no run to change.
        """
        if self.snapshot is None:
            if settings.output.override:
                raise InputError("--override changes an option of a run that is resumed, and there is no checkpoint")
            return settings
        missing = [name for name in ("options", "best", "trajectory", "blas") if name not in self.snapshot.facts]
        if missing:
            raise InputError(f"{self.path}: not a run's checkpoint: it does not note {', '.join(missing)}")
        try:
            return settings.resuming(self.snapshot.facts["options"], given)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None

    def check(self, settings: Settings, identity: dict[str, Any], complaint: Complaint) -> None:
        """Raise InputError if resuming would not end as the run would have ended.

        identity: as `identity` returns it. complaint: told if the last bits may be others.
        """
        if self.snapshot is None:
            return
        facts = self.snapshot.facts
        try:
            changed = settings.changed(facts["options"])
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        for name, now in identity.items():
            before = facts["trajectory"].get(name)
            # Versions before this one kept a model's words, not its description. --hidden says what model it was.
            in_words = name == "model" and isinstance(before, str)
            if name == "model" and isinstance(before, dict):
                # Nor did they keep the columns' names. The checksum of the rows says whether they are the same.
                now = {part: value for part, value in now.items() if part in before or part not in ("columns", "label")}
            if before != now and not in_words:
                hint = "; was there a --model-file?" if name == "model" and settings.model.model_file is None else ""
                changed.append(f"{name} was {before}, now {now}{hint}")
        if changed:
            raise InputError(f"{self.path}: can't go on with other settings: {one_line('; '.join(changed))}")
        epochs, begun = settings.training.epochs, self.snapshot.epoch + (self.snapshot.step > 0)
        if epochs < begun:
            raise InputError(f"{self.path}: is in epoch {begun} already; raise --epochs from {epochs}")
        numpy = facts.get("numpy")  # which earlier versions did not note
        if isinstance(numpy, str) and _feature_release(numpy) != _feature_release(np.__version__):
            complaint(
                f"{self.path}: made with NumPy {numpy}, and now it is {np.__version__}: another feature release may "
                "draw other random numbers, and so train on the rows in another order than the run would have had"
            )
        library = blas()[0]
        if settings.training.reproducible and facts["blas"] != library:
            complaint(
                f"{self.path}: made with {facts['blas']}, and now it is {library}: the last bits may not be those "
                "that the run would have had; OPENBLAS_CORETYPE chooses OpenBLAS's kernel"
            )

    def overrides(self, settings: Settings) -> list[dict[str, Any]]:
        """What was overridden so far, and what is now: for each option, where training stood and both values."""
        if self.snapshot is None:
            return []
        before = {name: OPTIONS[name].default for name in settings.overrides()} | self.snapshot.facts["options"]
        new = [
            {"epoch": self.snapshot.epoch, "step": self.snapshot.step, "option": name, "was": before[name], "now": now}
            for name, now in settings.overrides().items()
            if OPTIONS[name].check(before[name]) != now
        ]
        return [*self.snapshot.facts.get("overrides", []), *new]

    def arrays(self, state: Mapping[str, Array], settings: Settings) -> Mapping[str, Array]:
        """The snapshot's arrays. state: the trainer's own, by the same names.

        If momentum is overridden, the optimizer may remember other vectors than before: new ones begin with zeros.
        """
        assert self.snapshot is not None
        arrays = self.snapshot.arrays
        if "momentum" not in settings.overrides():
            return arrays
        return {
            name: np.zeros_like(own) if name.startswith("optimizer.") and name not in arrays else arrays[name]
            for name, own in state.items()
            if name in arrays or name.startswith("optimizer.")
        }


def identity(model: Sequential, train: Dataset) -> dict[str, Any]:
    """What, besides the options, a resumed run must have in common with the run it resumes, by names for people."""
    return {"model": model.description(), "SHA-256 of the training rows": train.sha256()}


def find_start(resume: str | None, out: Path | None, complaint: Complaint) -> Start:
    """What --resume and --out mean. Changes nothing.

    resume: "auto", the newest checkpoint of out, or the beginning if there is none yet; the path of a run's folder
    or of a checkpoint; or None. complaint: called with a line for each damaged checkpoint that is passed over. Raises
    InputError if there is nothing whole to resume from, or if the folder to write to is not empty and no run's.
    """
    try:
        start = _find_start(resume, out, complaint)
    except OSError as error:
        raise InputError(f"--resume {resume}: {error.filename or out}: {error.strerror or error}") from error
    start.run_there()
    return start


def _find_start(resume: str | None, out: Path | None, complaint: Complaint) -> Start:
    if resume is None:
        return Start(out)
    if not resume:
        raise InputError("--resume: an empty path; is the variable set that it came from?")
    if resume == "auto":
        if out is None:
            raise InputError("--resume auto: give the --out of the run to go on with")
        home, (path, snapshot) = out, _newest(out, complaint)
        if path is None or snapshot is None:
            return Start(out, may_hold_run=True)
    elif Path(resume).is_dir():
        home, (path, snapshot) = Path(resume), _newest(Path(resume), complaint)
        if path is None or snapshot is None:
            raise InputError(f"--resume {home}: has no {CHECKPOINTS} to go on from")
    else:
        path, home = Path(resume), Path(resume).absolute().parent.parent
        snapshot = read_snapshot(path)
    # A checkpoint that was copied somewhere lies in no run's folder: without --out, the run goes on in a new one.
    in_place = out is None or (out.exists() and home.exists() and out.samefile(home))
    if in_place and path.absolute().parent.name == CHECKPOINTS:
        marked = read_run(home) is not None
        if marked or _has_options_of(snapshot, home):
            return Start(out or home, snapshot, path, may_hold_run=True, unmarked=not marked)
    return Start(out, snapshot, path)


def _has_options_of(snapshot: Snapshot, folder: Path) -> bool:
    """Whether the folder's config.toml has the options of the checkpoint, as in each folder that a run made.

    So a run of a version that wrote no run.json is told from a folder where a checkpoint lies by chance.
    """
    try:
        with open_regular(folder / CONFIG) as file:
            options = tomllib.load(file)
    except (InputError, OSError, ValueError, RecursionError):
        return False
    before: dict[str, Any] = snapshot.facts.get("options", {})
    return bool(before) and before.keys() <= options.keys()


def _newest(folder: Path, complaint: Complaint) -> tuple[Path | None, Snapshot | None]:
    """The newest whole checkpoint of a run's folder; None and None if there is none yet."""
    found = newest_snapshot(folder / CHECKPOINTS, complaint)
    if found is None and any((folder / CHECKPOINTS).glob("*.npz")):
        raise InputError(f"{folder / CHECKPOINTS}: no checkpoint there is whole; choose another --out to begin anew")
    return found or (None, None)


def _feature_release(version: str) -> list[str]:
    """The first two numbers of a version: ["2", "3"] for 2.3.5."""
    return version.split(".")[:2]
