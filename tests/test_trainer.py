import numpy as np
import pytest
import reference
from tables import classified_rows

from benchmarks.step import allocated_by
from ddp_numpy import (
    SGD,
    Dataset,
    Dense,
    FactorExchange,
    FloatExchange,
    GridExchange,
    InputError,
    ReLU,
    Sequential,
    SingleProcess,
    Trainer,
)
from ddp_numpy.base.scale import Scale
from ddp_numpy.data import Reader, batches, epoch_order
from ddp_numpy.exchange import Exchange

BATCH, LR, SEED = 16, 0.1, 5


def dataset(rows: int) -> Dataset:
    X, y = classified_rows(rows)
    return Dataset(X, y, classes=4, scale=Scale(255.0))


def trainer(dtype: str = "float64", batch_size: int = BATCH) -> Trainer:
    model = Sequential(Dense(9), ReLU(), Dense(6), ReLU(), Dense(4), dtype=dtype)
    return Trainer(model, SGD(LR), SingleProcess(), batch_size=batch_size, seed=SEED)


@pytest.mark.parametrize(
    ("rows", "batch", "steps"),
    [
        (200, BATCH, 13),  # the last batch of 8 rows too
        (1500, 600, 3),  # batches of 600 and 300 rows, in pieces
    ],
)
def test_an_epochs_losses_are_those_of_the_reference(rows: int, batch: int, steps: int) -> None:
    data, ours = dataset(rows), trainer(batch_size=batch)
    ours.prepare(data)
    weights = [(layer.W.copy(), layer.b.copy()) for layer in ours.model.layers if isinstance(layer, Dense)]
    order = epoch_order(len(data), SEED, 1)
    expected = reference.train_epoch(weights, data.features / 255.0, data.labels, order, batch, LR)
    losses, reader = [], Reader(data, np.float64)
    for mine in batches(order, batch):
        ours.train_step(reader, mine)
        losses.append(ours.sums[0] / ours.sums[2])
    assert len(losses) == steps
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-10)
    for layer, (W, b) in zip((d for d in ours.model.layers if isinstance(d, Dense)), weights, strict=True):
        np.testing.assert_allclose(layer.W, W, rtol=0, atol=1e-10)
        np.testing.assert_allclose(layer.b, b, rtol=0, atol=1e-10)


def test_train_is_fit_to_its_end() -> None:
    one, other = trainer(), trainer()
    epochs, expected = one.train(dataset(50), dataset(20), 2), list(other.fit(dataset(50), dataset(20), 2))
    assert [epoch.train_loss for epoch in epochs] == [epoch.train_loss for epoch in expected]
    assert one.model.digest() == other.model.digest()
    assert one.train(dataset(50), dataset(20), 2) == [], "both epochs are trained"


def test_fit_reports_what_it_did() -> None:
    train, valid = dataset(203), dataset(41)
    ours, steps = trainer(), []
    epochs = list(ours.fit(train, valid, 3, steps.append))
    assert [epoch.number for epoch in epochs] == [1, 2, 3]
    assert steps == ([BATCH] * 12 + [11]) * 3
    assert epochs[-1].train_loss < epochs[0].train_loss
    last = epochs[-1]
    assert last.valid_accuracy == np.mean(ours.model.predict(valid.features) == valid.labels)
    logits = ours.model.forward(valid.features / 255.0)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert last.valid_loss == pytest.approx(-log_p[range(41), valid.labels].mean(), abs=1e-12)
    assert last.images_per_second > 0
    assert last.seconds > 203 / last.images_per_second


def test_a_step_allocates_next_to_nothing() -> None:
    data, model = dataset(64), Sequential(Dense(128), ReLU(), Dense(64), ReLU(), Dense(4))
    ours = Trainer(model, SGD(LR), SingleProcess(), batch_size=64)
    ours.prepare(data)
    reader, rows = Reader(data, model.dtype), np.arange(64)

    def step() -> None:
        ours.train_step(reader, rows)

    step()  # makes the buffers
    assert allocated_by(step) < 4096


def test_evaluation_counts_every_row_once_in_pieces_of_any_size() -> None:
    data, ours = dataset(2500), trainer()
    ours.prepare(data)
    loss, correct, rows = ours.evaluate(data)
    assert rows == 2500
    assert correct == np.sum(ours.model.predict(data.features) == data.labels)
    assert loss > 0


def test_a_batch_larger_than_the_data_is_all_of_it() -> None:
    steps: list[int] = []
    list(trainer(batch_size=500).fit(dataset(60), dataset(8), 1, steps.append))
    assert steps == [60]


def test_training_goes_on_with_a_built_model() -> None:
    first = trainer()
    list(first.fit(dataset(60), dataset(8), 1))
    weights = first.model.params.copy()
    Trainer(first.model, SGD(LR), SingleProcess()).prepare(dataset(60))
    np.testing.assert_array_equal(first.model.params, weights)


def test_a_model_that_does_not_fit_the_data_is_refused() -> None:
    data = dataset(60)
    fits_not = Dataset(data.features[:, :5], data.labels, 4, Scale(255.0))
    ours = trainer()
    ours.prepare(data)
    with pytest.raises(InputError, match=r"maps \(12,\) to \(4,\), but the data has features \(5,\) and 4 classes"):
        ours.prepare(fits_not)


@pytest.mark.parametrize("kind", [FloatExchange, GridExchange, FactorExchange])
def test_an_exchange_of_two_trainers_is_refused(kind: type[Exchange]) -> None:
    exchange = kind()
    first, second = (
        Trainer(Sequential(Dense(4)), SGD(LR), SingleProcess(), batch_size=BATCH, exchange=exchange) for _ in range(2)
    )
    first.prepare(dataset(60))
    first.prepare(dataset(60))
    grads = exchange.grads
    with pytest.raises(InputError, match=f"this {kind.__name__} belongs to another trainer; give each trainer its own"):
        second.prepare(dataset(60))
    assert exchange.grads is grads


def test_batch_size_below_one_is_refused() -> None:
    with pytest.raises(InputError, match="batch size 0"):
        trainer(batch_size=0)


def test_sgd_is_its_formula() -> None:
    params, grads = np.array([1.0, 2.0]), np.array([10.0, -20.0])
    view = params[:]
    SGD(lr=0.1).step(params, grads)
    np.testing.assert_allclose(view, [0.0, 4.0], atol=1e-15)
