"""The moving average of a model's weights."""

import contextlib

import numpy as np
import pytest
from tables import classified_rows

from ddp_numpy import SGD, Dataset, Dense, InputError, MovingAverage, ReLU, Sequential, SingleProcess, Trainer
from ddp_numpy.base.scale import Scale
from ddp_numpy.runs.model_file import load_model
from ddp_numpy.runs.snapshot import Snapshot, write_snapshot

DATA = Dataset(*classified_rows(90), classes=4, scale=Scale(255.0))


def trainer(average: MovingAverage | None) -> Trainer:
    model = Sequential(Dense(6), ReLU(), Dense(4), dtype=np.float64)
    return Trainer(model, SGD(0.5), SingleProcess(), batch_size=20, average=average)


def test_an_average_is_what_its_formula_says() -> None:
    average = MovingAverage(0.6)
    training = trainer(average)
    training.prepare(DATA)
    expected, params = training.model.params.copy(), training.model.params
    seen = []
    for _ in training.fit(DATA, DATA, 3, on_step=lambda _: seen.append(params.copy())):
        pass
    for n, now in enumerate(seen):
        d = min(0.6, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * now
    assert len(seen) == 15
    np.testing.assert_allclose(average.state["params"], expected, rtol=1e-13)


def test_the_average_is_validated_and_changes_no_update() -> None:
    plain, averaged = trainer(None), trainer(MovingAverage(0.9))
    without, with_it = plain.train(DATA, DATA, 3), averaged.train(DATA, DATA, 3)
    np.testing.assert_array_equal(plain.model.params, averaged.model.params)
    assert [e.train_loss for e in without] == [e.train_loss for e in with_it]
    assert [e.valid_loss for e in without] != [e.valid_loss for e in with_it]
    own = averaged.model.params
    with averaged.averaged():
        loss, correct, rows = plain_figures(averaged)
    assert averaged.model.params is own
    assert with_it[-1].valid_loss == pytest.approx(loss / rows)
    assert with_it[-1].valid_accuracy == correct / rows


def plain_figures(training: Trainer) -> list[float]:
    P = training.model.predict_proba(DATA.features)
    right = P.argmax(axis=1) == DATA.labels
    return [-np.log(P[np.arange(len(P)), DATA.labels]).sum(), right.sum(), len(P)]


def test_a_block_that_fails_gives_the_weights_back() -> None:
    training = trainer(MovingAverage(0.9))
    training.train(DATA, DATA, 1)
    own = training.model.params
    with contextlib.suppress(ZeroDivisionError), training.averaged():
        assert training.model.params is not own
        raise ZeroDivisionError
    assert training.model.params is own


def test_the_model_of_a_checkpoint_is_the_average(tmp_path) -> None:  # type: ignore[no-untyped-def]
    training = trainer(MovingAverage(0.9))
    training.train(DATA, DATA, 2)
    path = tmp_path / "checkpoint.npz"
    facts = {"trajectory": {"model": training.model.description()}}
    with path.open("wb") as file:
        write_snapshot(file, Snapshot(2, 0, training.state(), facts))
    assert training.average is not None
    np.testing.assert_array_equal(load_model(path).params, training.average.state["params"])


def test_a_decay_that_can_not_be() -> None:
    with pytest.raises(InputError, match=r"MovingAverage: decay is 1\.5, and must be a number from 0 to 1"):
        MovingAverage(1.5)
