"""The checkpoints of a run: written in the background, the last few and the best of them kept."""

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, remove_temporaries
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot

_PATTERN = "step-*.npz"
_BEST = "best.npz"


class CheckpointStore:
    """Writes checkpoints to a folder from a thread of its own, so that no step waits for a disk.

    A disk that can't keep up gets the newest one next, and those between are left out, unless all are to be kept. One
    that can't be written costs that checkpoint, not the training: `complaint` is told, and the next is tried as if
    nothing had been.
    """

    def __init__(self, folder: Path, keep: int | None, complaint: Callable[[str], None]) -> None:
        """keep: how many of the newest stay, besides the best; None: all, and `save` waits for the disk. complaint:
        called, from the thread, with a line. Raises OSError where the folder can't be made.
        """
        self._folder, self._keep, self._complaint = folder, keep, complaint
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporaries(folder)  # of a writer that was killed
        self._changed = threading.Condition()
        self._waiting: dict[bool, tuple[int, Snapshot]] = {}  # by whether it is a best one: one of each at most
        self._writing = self._closed = False
        self.error: OSError | None = None
        """Why the last checkpoint could not be written; None if it was."""
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def save(self, number: int, snapshot: Snapshot, best: bool = False) -> None:
        """Have a checkpoint written soon. number: of steps made in all; best: keep it as the best so far too.

        The arrays are copied before this returns.
        """
        copies = {name: array.copy() for name, array in snapshot.arrays.items()}
        with self._changed:
            self._waiting[best] = number, dataclasses.replace(snapshot, arrays=copies)
            self._changed.notify_all()
        if self._keep is None:
            self.flush()

    def flush(self) -> None:
        """Wait until all that was saved is on the disk, or has failed to get there: then `error` is set."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._writing)

    def close(self) -> None:
        """Write what is waiting, and end the thread."""
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
        for path in [newest, *([self._folder / _BEST] if best else [])]:
            with atomic_write(path) as file:
                write_snapshot(file, snapshot)
        if self._keep is None:
            return
        # A run that went back to an older checkpoint finds later ones here, and those that it writes now are to stay.
        so_far = sorted(path for path in self._folder.glob(_PATTERN) if path <= newest)
        for old in so_far[: -self._keep]:
            old.unlink(missing_ok=True)


def newest_snapshot(folder: Path, complaint: Callable[[str], None]) -> tuple[Path, Snapshot] | None:
    """The newest whole checkpoint of a store's folder; None if there is none. complaint: called with a line for each
    newer one that is not whole."""
    for path in sorted(folder.glob(_PATTERN), reverse=True):
        try:
            return path, read_snapshot(path)
        except InputError as error:
            complaint(f"{error}; taking the one before it")
    return None
