"""Starts a job again after it has died, from its last checkpoint.

Until the folder of its --out has a checkpoint, a job is started as the user asked, also with a --resume of another run.
"""

from pathlib import Path

from launch.errors import LaunchError
from launch.job import Ending
from launch.messages import tell

INTERRUPTED = 75  # EX_TEMPFAIL: the job stopped early, with its work saved, and wants to be started again
# Statuses after which a restart is no use: the job is done, the user made a mistake, or the job was told to stop.
_FINAL = (0, 2, INTERRUPTED)
CHECKPOINTS = "checkpoints/step-*.npz"
"""The checkpoints in the folder of --out."""
RESUME_AUTO = ("--resume", "auto")
"""Goes on from the newest checkpoint in the folder of --out. If there is none, the job begins at its beginning."""


class Restarts:
    """Counts the restarts that a job has left, and judges whether one more restart can help."""

    def __init__(self, most: int, arguments: tuple[str, ...], rank_0_is_here: bool) -> None:
        """arguments: those of the job's program. rank_0_is_here: whether rank 0, which makes --out, is on this host.

        Raises LaunchError if the arguments have no --out: the checkpoints are there.
        """
        self._most, self._asked, self._rank_0_is_here = most, arguments, rank_0_is_here
        out = value_of("--out", arguments)
        self._folder = None if out is None else Path(out)
        self._newest_before: str | None = None
        self.made = 0
        """The number of restarts so far."""
        self.arguments = arguments
        """The arguments of the next start."""
        if most and self._folder is None:
            raise LaunchError("--max-restarts: give the job an --out, where it finds its checkpoints again")

    def again(self, ending: Ending) -> bool:
        """Whether to start the job again after this ending. If the job died, prints why or why not."""
        if not self._most or ending.asked or ending.status in _FINAL:
            return False
        newest = self._newest()
        died = f"the job died with status {ending.status}"
        if self.made == self._most:
            tell(f"error: {died}, and all {self._most} restarts are used up; see --max-restarts")
            return False
        if self.made and newest == self._newest_before and self._can_be_seen():
            tell(f"error: {died} again with no checkpoint in between: another restart would end likewise")
            return False
        self.made, self._newest_before = self.made + 1, newest
        start = value_of("--resume", self._asked)
        if start is None or newest is not None:
            self.arguments = (*self._asked, *RESUME_AUTO)
        where = newest or (start if start not in (None, "auto") else "the start")
        tell(f"note: {died}; restart {self.made} of {self._most} from {where}")
        return True

    def _newest(self) -> str | None:
        assert self._folder is not None
        return max((path.name for path in self._folder.glob(CHECKPOINTS)), default=None)

    def _can_be_seen(self) -> bool:
        """Whether the folder's checkpoints can be seen on this host. If rank 0 is on another host, perhaps not."""
        return self._rank_0_is_here or (self._folder is not None and self._folder.exists())


def value_of(option: str, arguments: tuple[str, ...]) -> str | None:
    """The value of an option among a program's arguments; None if it is not there. Of two, the last one counts."""
    found = None
    for number, word in enumerate(arguments):
        if word == option and number + 1 < len(arguments):
            found = arguments[number + 1]
        elif word.startswith(f"{option}="):
            found = word.removeprefix(f"{option}=")
    return found
