"""The folder of a sweep: what is measured, and all samples. A sweep that is broken off goes on in it."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ddp_numpy.base import schema
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import HIDDEN
from ddp_numpy.base.lock import FolderLock
from ddp_numpy.scaling.json_file import JsonFormat
from ddp_numpy.scaling.samples import Sample, Samples

PLAN = "sweep.json"
_FORMAT = JsonFormat(
    "ddp_numpy sweep 1",
    {"seed": schema.Whole(), "plan": {"training?": {...: object}, ...: object}},
    "take a new folder for --out",
)


@contextlib.contextmanager
def opened(path: Path, plan: dict[str, Any]) -> Iterator[tuple[Samples, int]]:
    """The samples that a folder has, and a number for the order of launches, which the folder keeps.

    plan: what decides the samples, as JSON can hold it. Makes the folder, and keeps other sweeps out of it for the time
    of the block. Raises InputError if it can't be written, if it has another plan or other files, and if it is damaged.
    """
    plan = json.loads(json.dumps(plan))  # as it is read again, with lists in place of tuples
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(path, lambda _: None)
    except OSError as error:
        raise InputError(f"--out {path}: {error.strerror or error}") from error
    try:
        if (path / PLAN).exists():
            seed = _same_plan(path / PLAN, plan)
        elif strangers := [file.name for file in path.iterdir() if not file.name.startswith(HIDDEN)]:
            raise InputError(
                f"--out {path}: has files that are no sweep's, {min(strangers)} for one; take a new folder"
            )
        else:
            seed = secrets.randbelow(2**32)
            _FORMAT.write(path / PLAN, seed=seed, plan=plan)
        yield Samples(path), seed
    finally:
        lock.release()


def found_in(path: Path) -> tuple[list[Sample], dict[str, Any]]:
    """The samples of another sweep, and its plan. Raises InputError if it is none, or damaged."""
    if not (path / PLAN).exists():
        raise InputError(f"{path}: is no folder of a sweep")
    return Samples(path).all, _FORMAT.read(path / PLAN)["plan"]


def _same_plan(path: Path, plan: dict[str, Any]) -> int:
    """The number that a folder with this plan keeps. Raises InputError if it has another."""
    found = _FORMAT.read(path)
    there, plan = _by_option(found["plan"]), _by_option(plan)
    changed = [name for name in {**there, **plan} if there.get(name) != plan.get(name)]
    if changed:
        raise InputError(
            f"{path}: the sweep there was begun with another value of {min(changed)}; take a new folder for --out"
        )
    return int(found["seed"])


def _by_option(plan: dict[str, Any]) -> dict[str, Any]:
    """The options of training among the others, so that each is named that is another."""
    others = {name: value for name, value in plan.items() if name != "training"}
    return {**plan.get("training", {}), **others}
