"""The figures of an epoch."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Epoch:
    """The figures of one epoch, over all rows and all ranks. Losses are means per row, in nats."""

    number: int
    train_loss: float
    """Mean over the epoch's rows of the loss each had in its own step, before that step's update."""
    train_accuracy: float
    valid_loss: float
    valid_accuracy: float
    lr: float
    """The learning rate of the epoch's last update."""
    images_per_second: float
    """Training rows of all ranks over the time of the training steps alone."""
    seconds: float
    """Training and evaluation."""

    def as_dict(self) -> dict[str, float | None]:
        """For JSON, which has no word for a number that is not finite but null."""
        values: dict[str, float] = dataclasses.asdict(self)
        return {"epoch": values.pop("number")} | {k: v if math.isfinite(v) else None for k, v in values.items()}
