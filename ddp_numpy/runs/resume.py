"""What --resume and --out mean: where a run starts from, and whether it may go on from there."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.base.threads import blas
from ddp_numpy.data import Dataset
from ddp_numpy.nn import Array, Sequential
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot
from ddp_numpy.runs.store import newest_snapshot
from ddp_numpy.settings import OPTIONS, Settings

CHECKPOINTS = "checkpoints"
"""The folder inside a run's folder."""

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
            if before != now and not in_words:
                changed.append(f"{name} was {before}, now {now}")
        if changed:
            raise InputError(f"{self.path}: can't go on with other settings: {one_line('; '.join(changed))}")
        epochs, begun = settings.training.epochs, self.snapshot.epoch + (self.snapshot.step > 0)
        if epochs < begun:
            raise InputError(f"{self.path}: is in epoch {begun} already; raise --epochs from {epochs}")
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
    """What --resume and --out mean. Changes nothing. Raises InputError if there is nothing whole to resume from.

    resume: "auto", the newest checkpoint of out, or the beginning if there is none yet; the path of a run's folder
    or of a checkpoint; or None. complaint: called with a line for each damaged checkpoint that is passed over.
    """
    if resume is None:
        return Start(out)
    if resume == "auto":
        if out is None:
            raise InputError("--resume auto: give the --out of the run to go on with")
        path, snapshot = _newest(out, complaint)
        return Start(out, snapshot, path, may_hold_run=True)
    path, home = Path(resume), Path(resume).absolute().parent.parent
    if path.is_dir():
        home = path
        path, snapshot = _newest(path, complaint)
        if snapshot is None:
            raise InputError(f"--resume {home}: has no {CHECKPOINTS} to go on from")
    else:
        snapshot = read_snapshot(path)
    same = out is None or (out.exists() and home.exists() and out.samefile(home))
    return Start(out or home, snapshot, path, may_hold_run=same)


def _newest(folder: Path, complaint: Complaint) -> tuple[Path | None, Snapshot | None]:
    """The newest whole checkpoint of a run's folder; None and None if there is none yet."""
    found = newest_snapshot(folder / CHECKPOINTS, complaint)
    if found is None and any((folder / CHECKPOINTS).glob("*.npz")):
        raise InputError(f"{folder / CHECKPOINTS}: no checkpoint there is whole; choose another --out to begin anew")
    return found or (None, None)
