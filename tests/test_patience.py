"""Early stopping, a rate that is reduced on a plateau, and what of them a checkpoint keeps."""

import math

import numpy as np
import pytest
from tables import classified_rows

from ddp_numpy import SGD, Dataset, Dense, InputError, Sequential, SingleProcess, Trainer
from ddp_numpy.base.scale import Scale
from ddp_numpy.making import make_patience
from ddp_numpy.optim.schedules import Constant, WarmUp
from ddp_numpy.settings import Training
from ddp_numpy.training.patience import EarlyStopping, Patience, ReduceOnPlateau


@pytest.mark.parametrize(
    ("patience", "losses", "times"),
    [
        (Patience(2), [5, 4, 3, 3, 3], [0, 0, 0, 0, 1]),
        (Patience(2), [5, 6, 4, 5, 4, 4, 4], [0, 0, 0, 0, 1, 1, 2]),  # as low as before is not lower
        (Patience(1), [5, 5, 5, 4, math.nan, math.inf], [0, 1, 2, 2, 3, 4]),
        (Patience(2, 0.5), [5, 4.6, 4.5, 4.4], [0, 0, 1, 1]),  # 4.4 is lower than 5 by more than 0.5
    ],
)
def test_epochs_without_a_lower_loss_are_counted(patience: Patience, losses: list[float], times: list[int]) -> None:
    found = []
    for loss in losses:
        patience.see(loss)
        found.append(int(patience.state[2]))
    assert found == times
    assert np.isfinite(patience.state).all(), "a checkpoint holds finite numbers"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EarlyStopping(0), "EarlyStopping: epochs is 0, and must be a whole number from 1"),
        (lambda: ReduceOnPlateau(3, min_delta=-1), "ReduceOnPlateau: min_delta is -1, and must be a number from 0"),
    ],
)
def test_what_patience_can_not_be(make: type[Patience], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()  # type: ignore[call-arg]


def trainer(**waiting: Patience) -> tuple[Trainer, Dataset]:
    data = Dataset(*classified_rows(60), classes=4, scale=Scale(255.0))
    model = Sequential(Dense(4), dtype=np.float64)
    return Trainer(model, SGD(0.1), SingleProcess(), batch_size=20, **waiting), data  # type: ignore[arg-type]


def test_training_ends_early() -> None:
    training, data = trainer(early_stopping=EarlyStopping(2, min_delta=1e9))
    assert [epoch.number for epoch in training.fit(data, data, 10)] == [1, 2, 3]
    assert training.ended_early
    assert training.train(data, data, 10) == [], "it is over"


def test_the_rate_is_reduced_on_a_plateau() -> None:
    training, data = trainer(plateau=ReduceOnPlateau(2, 0.5, min_delta=1e9))
    rates = [epoch.lr for epoch in training.fit(data, data, 6)]
    assert rates == [0.1, 0.1, 0.1, 0.05, 0.05, 0.025]


def test_a_plateau_reduces_a_schedules_rate() -> None:
    training, data = trainer(plateau=ReduceOnPlateau(1, 0.5, min_delta=1e9))
    training.schedule = WarmUp(Constant(0.8), 9)  # three epochs of three steps
    assert [epoch.lr for epoch in training.fit(data, data, 4)] == pytest.approx([0.8 / 3, 1.6 / 3, 0.4, 0.2])


def test_what_was_seen_is_resumed() -> None:
    def waiting() -> dict[str, Patience]:
        return {"plateau": ReduceOnPlateau(2, 0.5, min_delta=1e9), "early_stopping": EarlyStopping(5, min_delta=1e9)}

    whole, data = trainer(**waiting())
    epochs = whole.train(data, data, 20)
    assert len(epochs) == 6
    first, _ = trainer(**waiting())
    first.train(data, data, 3)
    second, _ = trainer(**waiting())
    second.prepare(data)
    second.restore(first.epoch, first.step, {name: array.copy() for name, array in first.state().items()})
    rest = second.train(data, data, 20)
    assert [(e.number, e.lr, e.valid_loss) for e in rest] == [(e.number, e.lr, e.valid_loss) for e in epochs[3:]]
    np.testing.assert_array_equal(second.model.params, whole.model.params)


def test_the_options_of_patience() -> None:
    assert make_patience(Training()) == (None, None)
    plateau, stopping = make_patience(Training(schedule="plateau", early_stopping=7, min_delta=0.1))
    assert str(plateau) == "times 0.1 after 5 epochs without a validation loss lower by more than 0.1"
    assert str(stopping) == "7 epochs without a validation loss lower by more than 0.1"
    plateau, _ = make_patience(Training(schedule="plateau", patience=2, lr_factor=0.3))
    assert str(plateau) == "times 0.3 after 2 epochs without a validation loss lower than before"
    with pytest.raises(InputError, match="--min-delta: needs --schedule plateau or --early-stopping"):
        make_patience(Training(min_delta=0.1))
