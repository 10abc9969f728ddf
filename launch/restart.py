"""Starts a job again after it has died, from its last checkpoint."""

from pathlib import Path

import click

from launch.errors import LaunchError
from launch.job import Ending
from launch.sbatch import INTERRUPTED

# Statuses after which a restart is no use: the job is done, the user made a mistake, or the job was told to stop.
_FINAL = (0, 2, INTERRUPTED)
_RESUME = ("--resume", "auto")


class Restarts:
    """Counts the restarts that a job has left, and judges whether one more restart can help."""

    def __init__(self, most: int, arguments: tuple[str, ...]) -> None:
        """arguments: those of the job's module. Raises LaunchError if they have no --out: the checkpoints are there."""
        self._left, self._most = most, most
        self._folder = out_folder(arguments) if most else None
        self._newest_before: str | None = None
        if most and self._folder is None:
            raise LaunchError("--max-restarts: give the job an --out, where it finds its checkpoints again")

    def again(self, ending: Ending) -> bool:
        """Whether to start the job again after this ending. If the job died, prints why or why not."""
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
        """Whether the job's folder can be seen on this host. It can't if rank 0 writes it on another host."""
        return self._folder is not None and self._folder.exists()


def _say(line: str) -> None:
    click.echo(line, err=True)


def resuming(arguments: tuple[str, ...]) -> tuple[str, ...]:
    """The arguments of a job that resumes from its last checkpoint. Of an option given twice, the last one counts."""
    return arguments if arguments[-2:] == _RESUME else (*arguments, *_RESUME)


def out_folder(arguments: tuple[str, ...]) -> Path | None:
    """The value of --out among a module's arguments; None if they have none."""
    found = None
    for number, word in enumerate(arguments):
        if word == "--out" and number + 1 < len(arguments):
            found = Path(arguments[number + 1])
        elif word.startswith("--out="):
            found = Path(word.removeprefix("--out="))
    return found
