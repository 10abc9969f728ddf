"""What an epoch came to, and the file that keeps it."""

import dataclasses
import json
import math
from pathlib import Path

from ddp_numpy.errors import InputError


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch, over all rows and all ranks. Losses are means per row, in nats."""

    number: int
    train_loss: float
    """Mean over the epoch's rows of the loss each had in its own step, before that step's update."""
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    images_per_second: float
    """Training rows of all ranks over the time of the training steps alone."""
    seconds: float
    """Training and evaluation."""

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no word for a number that is not finite but null."""
        values: dict[str, float] = dataclasses.asdict(self)
        return {"epoch": values.pop("number")} | {k: v if math.isfinite(v) else None for k, v in values.items()}


def append_json_line(path: Path, values: dict[str, float | None]) -> None:
    """Add one JSON object as a line. Raises InputError where that can't be written."""
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"{path}: can't write: {error.strerror or error}") from error
