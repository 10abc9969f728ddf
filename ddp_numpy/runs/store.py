"""The checkpoints of a run. They are written in the background; the newest few and the best one are kept."""

import contextlib
import dataclasses
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, remove_temporaries
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot

_PATTERN = "step-*.npz"
BEST = "best.npz"


class CheckpointStore:
    """Writes checkpoints to a folder. A thread of its own does the writing, so that no step waits for the disk.

    If the disk is too slow, the thread writes the newest checkpoint next and skips older ones that still wait. If all
    checkpoints are to be kept, none is skipped. If a checkpoint can't be written, only that checkpoint is lost:
    `complaint` is called, training goes on, and the next checkpoint is tried as usual.
    """

    def __init__(self, folder: Path, keep: int | None, complaint: Callable[[str], None]) -> None:
        """keep: how many of the newest checkpoints stay, besides the best; None: all, and `save` waits for the disk.
        complaint: the writer thread calls it with a line of text. Raises OSError if the folder can't be made.
        """
        self._folder, self._keep, self._complaint = folder, keep, complaint
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(folder)  # an earlier run may have been killed while it wrote
        self._changed = threading.Condition()
        self._waiting: dict[bool, tuple[int, Snapshot]] = {}  # two at most: the best (True), the newest other (False)
        self._writing = self._closed = False
        self.error: OSError | None = None
        """Why the last checkpoint could not be written; None if it was."""
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def save(self, number: int, snapshot: Snapshot, best: bool = False) -> None:
        """Ask the writer thread to write a checkpoint soon. The arrays are copied before this returns.

        number: of all steps made so far; best: whether to keep this checkpoint as the best so far, too.
        """
        copies = {name: array.copy() for name, array in snapshot.arrays.items()}
        with self._changed:
            self._waiting[best] = number, dataclasses.replace(snapshot, arrays=copies)
            self._changed.notify_all()
        if self._keep is None:
            self.flush()

    def flush(self) -> None:
        """Wait until the thread has tried to write all that was saved. If the last write failed, `error` is set."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing)

    def close(self) -> None:
        """Write the checkpoints that are still waiting, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                best = True in self._waiting
                number, snapshot = self._waiting.pop(best)
                self._writing = True
            try:
                self._write(number, snapshot, best)
                self.error = None
            except OSError as error:
                self.error = error
                self._complaint(
                    f"can't write a checkpoint to {self._folder}: {error.strerror or error}; training goes on, and the "
                    "next one is tried"
                )

    def _write(self, number: int, snapshot: Snapshot, best: bool) -> None:
        newest = self._folder / f"step-{number:010d}.npz"
        for path in [newest, *([self._folder / BEST] if best else [])]:
            with atomic_write(path) as file:
                write_snapshot(file, snapshot)
        if self._keep is None:
            return
        # A run resumed from an older checkpoint finds later ones in the folder, and its own new ones must stay: only
        # checkpoints up to the one just written are counted. Example: resumed at step 50, the file of step 100 still
        # there, keep = 1. The file of step 60 stays, although that of step 100 is later.
        so_far = sorted(path for path in self._folder.glob(_PATTERN) if path <= newest)
        for old in so_far[: -self._keep]:
            old.unlink(missing_ok=True)


def newest_snapshot(folder: Path, complaint: Callable[[str], None]) -> tuple[Path, Snapshot] | None:
    """The newest complete checkpoint of a store's folder; None if there is none.

    complaint: called with a line of text for each newer checkpoint that is damaged.
    """
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            return path, read_snapshot(path)
        except InputError as error:
            complaint(f"{error}; taking the one before it")
    return None


def checkpoints_by_step(folder: Path) -> dict[int, Path]:
    """A store's newest checkpoints by the number of steps made before, in their order; without the best one's copy."""
    found = sorted(folder.glob(_PATTERN))
    return {int(path.stem[5:]): path for path in found if re.fullmatch("step-[0-9]{1,18}", path.stem)}


def set_aside_later(path: Path, start: Snapshot, complaint: Callable[[str], None]) -> None:
    """Move a store's checkpoints that come after this one, read from this path, to the folder `aside`.

    A run that goes back makes new ones, and the next start is to take these. complaint: told of each that is moved.
    """
    aside = path.parent / "aside"
    for later in sorted(path.parent.glob(_PATTERN), reverse=True):
        if later == path:
            break
        with contextlib.suppress(InputError):  # damaged, and so never taken
            snapshot = read_snapshot(later)
            if (snapshot.epoch, snapshot.step) <= (start.epoch, start.step):
                break
            aside.mkdir(exist_ok=True)
            os.replace(later, aside / later.name)
            complaint(f"{later}: is later than {path.name}, which the run goes back to: moved to {aside}")
