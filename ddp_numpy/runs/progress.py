"""How far a run has come within its epoch, written down about once a second for those who watch it."""

import contextlib
import json
import time
from pathlib import Path

from ddp_numpy.base.files import atomic_write
from ddp_numpy.training.trainer import Trainer

_SECONDS = 1.0


class Progress:
    """Writes a file while a run trains, and removes it when the run ends. What can't be written is left out."""

    def __init__(self, path: Path, owner: str, epochs: int) -> None:
        """owner: of hidden files, as `atomic_write` takes it; epochs: that the run is to have in all."""
        self._path, self._owner, self._epochs = path, owner, epochs
        self._told, self._steps = time.monotonic(), 0  # when it was written last, and the steps since then

    def after_step(self, trainer: Trainer) -> None:
        """Write the file, if the last time was a second ago."""
        self._steps += 1
        seconds = time.monotonic() - self._told
        if seconds < _SECONDS:
            return
        loss, _, rows = trainer.epoch_sums.tolist()
        found = {
            "time": time.time(),
            "epoch": trainer.epoch + 1,
            "epochs": self._epochs,
            "step": trainer.step,
            "steps": trainer.epoch_steps,
            "train_loss": loss / rows,
            "lr": trainer.optimizer.lr,
            "images_per_second": self._steps * trainer.batch_size / seconds,
        }
        self._told, self._steps = time.monotonic(), 0
        with contextlib.suppress(OSError), atomic_write(self._path, self._owner, durable=False) as file:
            file.write(json.dumps(found).encode())

    def end(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)
