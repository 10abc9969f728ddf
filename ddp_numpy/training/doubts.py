"""Whether a training seems to lead nowhere."""

import itertools

from ddp_numpy.training.metrics import Epoch

_EPOCHS = 3  # to wait before a doubt


class Doubts:
    """Looks at the figures of epochs, and says once of each doubt what it is and what to do."""

    def __init__(self, largest_share: float | None) -> None:
        """largest_share: of the validation rows, those of the class with most of them; None if there are no classes."""
        self._largest_share = largest_share
        self._losses: list[float] = []
        self._said: set[str] = set()

    def see(self, epoch: Epoch) -> list[str]:
        """The lines to say after this epoch."""
        self._losses.append(epoch.train_loss)
        found = {}
        last = self._losses[-_EPOCHS - 1 :]
        if len(last) > _EPOCHS and all(before < after for before, after in itertools.pairwise(last)):
            found["grows"] = (
                f"the training loss has grown for {_EPOCHS} epochs: a lower --lr or a --clip-norm may help, and --scale"
            )
        share = self._largest_share
        accuracy = epoch.valid_accuracy
        if len(self._losses) >= _EPOCHS and share is not None and accuracy is not None and accuracy <= share:
            found["largest"] = (
                f"after {epoch.number} epochs the validation accuracy is {accuracy:.1%}, no more than always naming "
                f"the largest class gives ({share:.1%}): is the label right? Another --lr may help"
            )
        lines = [line for name, line in found.items() if name not in self._said]
        self._said |= found.keys()
        return lines
