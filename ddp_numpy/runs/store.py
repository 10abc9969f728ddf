"""The checkpoints of a run. They are written in the background; the newest few and the best one are kept."""

import contextlib
import dataclasses
import re
import threading
from collections.abc import Callable
from pathlib import Path

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, remove_temporaries
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot

BEST = "best.npz"


class CheckpointStore:
    """Writes checkpoints to a folder. A thread of its own does the writing, so that no step waits for the disk.

    If the disk is too slow, the thread writes the newest checkpoint next and skips older ones that still wait. If all
    checkpoints are to be kept, none is skipped. If a checkpoint can't be written, only that checkpoint is lost:
    `complaint` is called, training goes on, and the next checkpoint is tried as usual.
    """

    def __init__(self, folder: Path, keep: int | None, owner: str, complaint: Callable[[str], None]) -> None:
        """keep: how many of the newest checkpoints stay, besides the best; None: all, and `save` waits for the disk.

        owner: of hidden files, as `atomic_write` takes it. complaint: the writer thread calls it with a line of text.
        Raises OSError if the folder can't be made.
        """
        self._folder, self._keep, self._owner, self._complaint = folder, keep, owner, complaint
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(folder, owner)  # an earlier start may have been killed while it wrote
        self._changed = threading.Condition()
        self._waiting: dict[bool, tuple[int, Snapshot]] = {}  # two at most: the best (True), the newest other (False)
        self._writing = self._closed = self._ended = False
        self.error: Exception | None = None
        """Why the last checkpoint could not be written; None if it was."""
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def save(self, number: int, snapshot: Snapshot, best: bool = False) -> None:
        """Ask the writer thread to write a checkpoint soon. The arrays are copied before this returns.

        number: of all steps made so far; best: whether to keep this checkpoint as the best so far, too.
        """
        try:
            copies = {name: array.copy() for name, array in snapshot.arrays.items()}
        except MemoryError as error:
            self._note(error)
            return
        with self._changed:
            self._waiting[best] = number, dataclasses.replace(snapshot, arrays=copies)
            self._changed.notify_all()
        if self._keep is None:
            self.flush()

    def flush(self) -> None:
        """Wait until the thread has tried to write all that was saved. If the last write failed, `error` is set."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or not (self._waiting or self._writing))

    def close(self) -> None:
        """Write the checkpoints that are still waiting, and end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _work(self) -> None:
        try:
            going_on = True
            while going_on:
                try:
                    going_on = self._write_next()
                except Exception as error:  # a full disk, no memory, a value that JSON can't hold: go on with the next
                    self._note(error)
        finally:
            with self._changed:
                self._ended = True  # whatever ended the thread, nobody waits for it any more
                self._changed.notify_all()

    def _write_next(self) -> bool:
        """Wait for a checkpoint, and write it. Returns False if the store is closed and none is waiting."""
        with self._changed:
            self._writing = False
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return False
            best = True in self._waiting
            number, snapshot = self._waiting.pop(best)
            self._writing = True
        self._write(number, snapshot, best)
        self.error = None
        return True

    def _note(self, error: Exception) -> None:
        """Remember why a checkpoint can't be written, and tell of it."""
        self.error = error
        with contextlib.suppress(Exception):  # a message that can't be delivered
            self._complaint(
                f"can't write a checkpoint to {self._folder}: {in_words(error)}; training goes on, and the next one is "
                "tried"
            )

    def _write(self, number: int, snapshot: Snapshot, best: bool) -> None:
        newest = self._folder / f"step-{number:010d}.npz"
        for path in [newest, *([self._folder / BEST] if best else [])]:
            with atomic_write(path, self._owner) as file:
                write_snapshot(file, snapshot)
        if self._keep is None:
            return
        # If somebody has put later checkpoints into the folder, what is written now must stay: only checkpoints up to
        # the one just written are counted.
        so_far = [path for step, path in checkpoints_by_step(self._folder).items() if step <= number]
        for old in so_far[: -self._keep]:
            old.unlink(missing_ok=True)


def in_words(error: Exception) -> str:
    """Why something can't be written, for people to read."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def checkpoints_by_step(folder: Path) -> dict[int, Path]:
    """A store's checkpoints by the number of steps made before, in this order; without the best one's copy.

    Names that a store does not give, such as step-final.npz, are the user's own. Raises OSError if the folder is there
    and can't be read; glob would then find nothing, and a run would begin anew.
    """
    try:
        paths = list(folder.iterdir())
    except FileNotFoundError:
        return {}
    found = {path: re.fullmatch(r"step-([0-9]{10,})\.npz", path.name) for path in paths}
    return dict(sorted((int(name[1]), path) for path, name in found.items() if name))


def later_checkpoints(folder: Path, snapshot: Snapshot, number: int) -> list[Path]:
    """The checkpoints of a store's folder that were made later than this snapshot, of so many steps."""
    later = [path for step, path in checkpoints_by_step(folder).items() if step > number]
    if later:
        with contextlib.suppress(InputError):  # there is no best one, or it is damaged
            best = read_snapshot(folder / BEST)
            if (best.epoch, best.step) > (snapshot.epoch, snapshot.step):
                later.append(folder / BEST)
    return later


def newest_snapshot(folder: Path, complaint: Callable[[str], None]) -> tuple[Path, Snapshot] | None:
    """The newest complete checkpoint of a store's folder, which is the best one if there is no other; None if none is.

    complaint: called with a line of text for each newer checkpoint that is damaged.
    """
    best = [folder / BEST] if (folder / BEST).exists() else []
    for path in [*reversed(checkpoints_by_step(folder).values()), *best]:
        try:
            return path, read_snapshot(path)
        except InputError as error:
            complaint(f"{error}; taking the one before it")
    return None
