"""Starts a job again that died, from its last checkpoint."""

from pathlib import Path

import click

from launch.errors import LaunchError
from launch.job import Ending
from launch.sbatch import INTERRUPTED

# Statuses that starting again would not change: the job is done, its user made a mistake, or it was told to stop.
_FINAL = (0, 2, INTERRUPTED)
_RESUME = ("--resume", "auto")


class Restarts:
    """How often a job may still be started again, and whether that would get it anywhere."""

    def __init__(self, most: int, arguments: tuple[str, ...]) -> None:
        """arguments: of the job's module. Raises LaunchError unless they have an --out, where its checkpoints are."""
        self._left, self._most = most, most
        self._folder = out_folder(arguments) if most else None
        self._newest_before: str | None = None
        if most and self._folder is None:
            raise LaunchError("--max-restarts: give the job an --out, where it finds its checkpoints again")

    def again(self, ending: Ending) -> bool:
        """Whether to start again after an ending; says why or why not."""
        if not self._most or ending.asked or ending.status in _FINAL:
            return False
        newest = self._newest()
        died = f"the job died with status {ending.status}"
        if not self._left:
            _say(f"error: {died}, and all {self._most} restarts are used up; see --max-restarts")
            return False
        if self._left < self._most and newest == self._newest_before and self._can_be_seen():
            _say(f"error: {died} again with no checkpoint in between: another restart would end likewise")
            return False
        self._left, self._newest_before = self._left - 1, newest
        _say(f"note: {died}; restart {self._most - self._left} of {self._most} from {newest or 'the start'}")
        return True

    def _newest(self) -> str | None:
        assert self._folder is not None
        return max((path.name for path in (self._folder / "checkpoints").glob("step-*.npz")), default=None)

    def _can_be_seen(self) -> bool:
        """Whether the job's folder is on this host: rank 0 may be on another."""
        return self._folder is not None and self._folder.exists()


def _say(line: str) -> None:
    click.echo(line, err=True)


def resuming(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments of a job that goes on from its last checkpoint: of an option given twice, the last counts."""
    return arguments if arguments[-2:] == _RESUME else (*arguments, *_RESUME)


def out_folder(arguments: tuple[str, ...]) -> Path | None:
    """The --out among a module's arguments."""
    found = None
    for number, word in enumerate(arguments):
        if word == "--out" and number + 1 < len(arguments):
            found = Path(arguments[number + 1])
        elif word.startswith("--out="):
            found = Path(word.removeprefix("--out="))
    return found
