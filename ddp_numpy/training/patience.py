"""What waits for a lower validation loss: early stopping, and a learning rate that is reduced on a plateau.

Both are told the loss of each epoch, which is the same on every rank, and keep what they know in `state`, which
checkpoints hold.
"""

import numpy as np

from ddp_numpy.base import schema
from ddp_numpy.nn import Array


class Patience:
    """Counts the epochs in a row without a lower validation loss, and how often there were too many."""

    def __init__(self, epochs: int, min_delta: float = 0.0) -> None:
        """epochs: how many are too many. min_delta: a loss counts as lower if it is lower by more than this, in nats.

        Raises InputError unless epochs is a whole number above 0, and min_delta a number from 0 on.
        """
        schema.check(epochs, schema.Whole(1), f"{type(self).__name__}: epochs")
        schema.check(min_delta, schema.Real(0, float(np.finfo(np.float64).max)), f"{type(self).__name__}: min_delta")
        self.epochs, self.min_delta = epochs, min_delta
        self.state: Array = np.array([np.finfo(np.float64).max, 0, 0])
        """The lowest loss so far, the epochs since, and how often there were too many."""

    def see(self, loss: float) -> None:
        """Take the validation loss of one more epoch; one that is not a number is not lower than any other."""
        lowest, waited, times = self.state.tolist()
        if loss < lowest - self.min_delta:
            self.state[...] = loss, 0, times
        elif waited + 1 < self.epochs:
            self.state[1] += 1
        else:
            self.state[1:] = 0, times + 1

    def __str__(self) -> str:
        lower = f"by more than {self.min_delta:g}" if self.min_delta else "than before"
        return f"{self.epochs} epochs without a validation loss lower {lower}"


class EarlyStopping(Patience):
    """Ends training after so many epochs in a row without a lower validation loss."""

    @property
    def ends(self) -> bool:
        """Whether training is over."""
        return bool(self.state[2])


class ReduceOnPlateau(Patience):
    """Multiplies the learning rate by `factor` after so many epochs in a row without a lower validation loss."""

    def __init__(self, epochs: int, factor: float = 0.1, min_delta: float = 0.0) -> None:
        super().__init__(epochs, min_delta)
        self.factor = factor

    @property
    def scale(self) -> float:
        """What the learning rate is multiplied by, after all the epochs so far."""
        return float(self.factor ** self.state[2])

    def __str__(self) -> str:
        return f"times {self.factor:g} after {super().__str__()}"
