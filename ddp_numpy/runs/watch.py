"""Watches runs by their folders alone: nothing is written there, and no run knows of it."""

import contextlib
import math
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.runs.marker import CHECKPOINTS, CONFIG, METRICS, MODEL, PROGRESS, RUN, TEST
from ddp_numpy.runs.metrics import MetricsFile, from_json
from ddp_numpy.runs.store import BEST, checkpoints_by_step

_QUIET_SECONDS = 30.0  # without news a run counts as stopped: it writes progress once a second
_SHOWN = ("model", "hidden", "optimizer", "lr", "batch-size", "schedule", "epochs", "seed", "data")


class RunWatch:
    """What a run's folder says, as it is now and as it becomes."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.metrics = MetricsFile(folder)
        self.version = 0
        """Grows when there is news."""
        self.facts: dict[str, Any] = {}
        """All but the epochs, as JSON can hold it."""

    def update(self) -> None:
        """Look at the folder. What can't be read, or is torn, stays as it was."""
        news = False
        with contextlib.suppress(InputError, OSError):
            news = self.metrics.update()
        facts = self._facts()
        if news or facts != self.facts:
            self.facts, self.version = facts, self.version + 1

    def _facts(self) -> dict[str, Any]:
        progress = self._read(PROGRESS, from_json, None)
        run: Any = self._read(RUN, from_json, {})
        options: dict[str, Any] = self._read(CONFIG, tomllib.loads, {})
        return {
            "status": self._status(progress),
            "progress": progress if isinstance(progress, dict) else None,
            "starts": [one for one in run.get("starts", []) if isinstance(one, dict)] if isinstance(run, dict) else [],
            "options": {name: _plain(options[name]) for name in _SHOWN if name in options},
            "checkpoints": self._checkpoints(),
            "test": self._read(TEST, from_json, None),
        }

    def _status(self, progress: Any) -> str:
        """Running, finished, or stopped: before its end, or before it began to train."""
        newest = max((path.stat().st_mtime for path in self._told()), default=0.0)
        if progress is not None and time.time() - newest < _QUIET_SECONDS:
            return "running"
        return "finished" if (self.folder / MODEL).exists() and progress is None else "stopped"

    def _told(self) -> Iterator[Path]:
        return (path for name in (PROGRESS, METRICS) if (path := self.folder / name).exists())

    def _checkpoints(self) -> list[str]:
        with contextlib.suppress(OSError):
            names = [f"step {step:,}" for step in checkpoints_by_step(self.folder / CHECKPOINTS)]
            return names + ["best"] * (self.folder / CHECKPOINTS / BEST).exists()
        return []

    def _read(self, name: str, parse: Callable[[str], Any], otherwise: Any) -> Any:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            return parse((self.folder / name).read_text())
        return otherwise


class Watch:
    """The runs of some folders, those too that begin later."""

    def __init__(self, folders: list[Path]) -> None:
        """folders: of runs, or with runs in them. Raises InputError if one of them is no folder."""
        for folder in folders:
            if not folder.is_dir():
                raise InputError(f"{folder}: no folder; give those of runs, or one with runs in it")
        self._folders = folders
        self.runs: dict[Path, RunWatch] = {}

    def update(self) -> None:
        """Look at all folders."""
        for folder in self._run_folders():
            run = self.runs.get(folder) or RunWatch(folder, self._name(folder))
            with contextlib.suppress(OSError):  # of a folder that is being removed
                run.update()
                self.runs[folder] = run

    def _run_folders(self) -> Iterator[Path]:
        for folder in self._folders:
            with contextlib.suppress(OSError):
                inside = [folder] if _is_run(folder) else sorted(path for path in folder.iterdir() if path.is_dir())
                yield from (path for path in inside if _is_run(path))

    def _name(self, folder: Path) -> str:
        taken = {run.name for run in self.runs.values()}
        return folder.name if folder.name and folder.name not in taken else str(folder)


def _plain(value: Any) -> str | int | float:
    """As JSON can hold it: TOML knows dates and infinity, too."""
    fits = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    return value if fits else str(value)


def _is_run(folder: Path) -> bool:
    return (folder / RUN).is_file() or (folder / METRICS).is_file()
