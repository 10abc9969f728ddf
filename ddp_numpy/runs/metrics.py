"""What a run's metrics.jsonl says, while it is written and afterwards."""

import json
import os
from pathlib import Path
from typing import Any

from ddp_numpy.base.files import open_regular
from ddp_numpy.base.memory import reading
from ddp_numpy.runs.marker import METRICS


def from_json(text: str | bytes) -> Any:
    """As json.loads, but NaN and infinity are None: JavaScript can't read them. Raises ValueError, RecursionError."""
    return json.loads(text, parse_constant=lambda _: None)


class MetricsFile:
    """Reads the lines that a run has added since the last time, and waits for the end of one that is not whole yet."""

    def __init__(self, folder: Path) -> None:
        """folder: of the run."""
        self.path = folder / METRICS
        self.epochs: list[dict[str, Any]] = []
        """Figures by name, of each epoch so far."""
        self.generation = 0
        """How often the file was replaced: a resumed run makes its later epochs again."""
        self._inode, self._read = -1, 0

    def update(self) -> bool:
        """Read on, and return whether there was anything new. Raises InputError if the file can't be read."""
        if not self.path.exists():
            return False
        with reading(self.path), open_regular(self.path) as file:
            found = os.fstat(file.fileno())
            if found.st_ino != self._inode or found.st_size < self._read:
                self.generation += self._inode != -1
                self._inode, self._read, self.epochs = found.st_ino, 0, []
            file.seek(self._read)
            whole = file.read().rpartition(b"\n")
            self._read += len(whole[0]) + len(whole[1])
        before = len(self.epochs)
        for line in whole[0].splitlines():
            try:
                figures = from_json(line)
                figures["epoch"] = int(figures["epoch"])
            except (ValueError, TypeError, KeyError, RecursionError):  # torn, by a start that was killed
                continue
            self.epochs.append(figures)
        return len(self.epochs) > before


def metrics_by_epoch(folder: Path, name: str) -> dict[int, Any]:
    """A figure of each epoch that noted it, of the run in this folder. Raises InputError if it can't be read."""
    metrics = MetricsFile(folder)
    metrics.update()
    return {figures["epoch"]: figures[name] for figures in metrics.epochs if name in figures}
