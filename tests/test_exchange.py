"""Exact sums: what fits adds up to the last bit in any order, and what doesn't is found."""

from collections.abc import Callable

import numpy as np
import pytest
from tables import classified_rows

from ddp_numpy import (
    SGD,
    BatchNorm,
    Dataset,
    Dense,
    FactorExchange,
    FloatExchange,
    GridExchange,
    InputError,
    Layer,
    ReLU,
    Sequential,
    SingleProcess,
    SoftmaxCrossEntropy,
    Trainer,
)
from ddp_numpy.base.scale import Scale
from ddp_numpy.exchange import Exchange
from ddp_numpy.exchange.tally import GridTally

NO_ROWS = np.zeros(0)


def summed(gradients: np.ndarray, order: list[int]) -> GridExchange:
    """The gradients (shards, O), of the bias of a layer whose weights get none, added up in this order."""
    model, optimizer = Sequential(Dense(gradients.shape[1])), SGD()
    model.build((1,))
    exchange = GridExchange(micro_rows=1)
    loss = SoftmaxCrossEntropy(gradients.shape[1], model.dtype)
    exchange.prepare(SingleProcess(), model, loss, optimizer, batch_size=len(order), riders=2)
    (piece,) = exchange.pieces(1)
    with np.errstate(over="ignore", invalid="ignore"):  # as in training
        for shard in order:
            model.forward(np.zeros((1, 1, 1), np.float32))
            model.backward(gradients[[shard], np.newaxis])
            exchange.add(piece)
        exchange.riders[...] = len(order), 7
        exchange.sum()
    assert exchange.riders.tolist() == [len(order), 7]
    return exchange


@pytest.mark.parametrize(
    ("make", "nbytes"),
    [
        (FloatExchange, 4 * (8 + 4 + 15 + 2)),
        (GridExchange, 8 * (8 + 4 + 15 + 6 + 1 + 2)),  # one more for each array, one for all, and two riders
        (FactorExchange, 4 * (8 + 15) + 8 * (4 + 2 + 1)),  # only the normalization's are summed as integers
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_how_many_bytes_are_summed(make: Callable[[], Exchange], nbytes: int) -> None:
    model, optimizer = Sequential(Dense(2), BatchNorm(), ReLU(), Dense(5)), SGD()
    model.build((3,))
    loss = SoftmaxCrossEntropy(5, model.dtype)
    exchange = make().prepare(SingleProcess(), model, loss, optimizer, batch_size=4, riders=2)
    assert exchange.summed_bytes == nbytes


def test_sums_have_no_order(rng: np.random.Generator) -> None:
    gradients = (rng.standard_normal((50, 7)) * 10.0 ** rng.uniform(-12, 2, (50, 7))).astype(np.float32)
    exact = np.rint(gradients.astype(np.float64) * 2.0**40).astype(np.int64).sum(axis=0)  # of halves too: to even
    for _ in range(5):
        exchange = summed(gradients, list(rng.permutation(50)))
        np.testing.assert_array_equal(exchange.grads[7:], (exact * 2.0**-40).astype(np.float32))
        assert exchange.not_finite(loss=1.0) is None


@pytest.mark.parametrize(
    ("gradients", "fits"),
    [
        ([2047.9, -2047.9], True),
        ([1500.0, 1500.0, -1500.0], True),  # that they are too many on the way is nobody's business
        ([1500.0, 1500.0], False),
        ([-1500.0, -1500.0], False),
        ([3000.0, -3000.0], False),
        ([2048.0], False),
        ([float("nan"), 1.0], False),
        ([float("inf")], False),
        ([1e38, 1e38], False),
        ([1500.0] * 5000, False),
        ([-2000.0] * 9000, False),
    ],
)
def test_what_has_no_place_on_the_grid_is_named(gradients: list[float], fits: bool) -> None:
    column = np.array(gradients, np.float32)[:, np.newaxis]
    exchange = summed(column, list(range(len(column))))
    found = exchange.not_finite(loss=1.0)
    if fits:
        assert found is None
        assert exchange.grads[1] == sum(gradients)
    else:  # 0 times what is not a number is no number either: then it is W that is named
        name = "b" if np.isfinite(column).all() else "W"
        assert found is not None
        assert found.startswith(f"the gradient of {name} of layer 1 (Dense) is not a finite number below 2048, ")


def test_losses_add_up_and_one_without_a_place_makes_no_wrong_sum() -> None:
    right = np.array([True, False, True])
    tally = GridTally()
    counts = tally.add(tally.nothing, np.array([0.5, 2.25, 2047.0], np.float32), right)
    counts = tally.add(counts, NO_ROWS, NO_ROWS)
    assert tally.figures(np.array(counts)).tolist() == [2049.75, 2, 3]
    for beyond in (2048.0, np.inf, np.nan):
        more = tally.add(counts, np.array([0.5, beyond, 1.0], np.float32), right)
        loss, *others = tally.figures(np.array(more)).tolist()
        assert np.isnan(loss)
        assert others == [4, 6]


def test_losses_of_large_weights_add_up_in_a_unit_of_their_own() -> None:
    assert [SoftmaxCrossEntropy(2, np.float32, weights=w).unit for w in ([1, 0.5], [1, 3], [8, 0.1])] == [1, 4, 8]
    tally = GridTally()
    tally.loss_unit = 8.0
    counts = tally.add(tally.nothing, np.array([8.0, 16_000.0]), np.array([True, False]))
    assert tally.figures(np.array(counts)).tolist() == [16_008, 1, 2]
    assert np.isnan(tally.figures(np.array(tally.add(counts, np.array([16_384.0]), np.array([True]))))[0])


@pytest.mark.parametrize("parts", [2, 3, 7, 1000])
@pytest.mark.parametrize(
    "make",
    [
        FloatExchange,
        GridExchange,
        FactorExchange,
        lambda **parts: FactorExchange(reproducible=False, **parts),
        lambda **parts: GridExchange(4, **parts),
        lambda **parts: FactorExchange(micro_rows=4, **parts),
    ],
)
def test_a_batch_in_parts_gives_the_same(make: Callable[..., Exchange], parts: int) -> None:
    data = Dataset(*classified_rows(250), classes=4, scale=Scale(255.0))

    def train(exchange: Exchange) -> np.ndarray:
        model = Sequential(Dense(9), ReLU(), Dense(4), dtype=np.float64)
        trainer = Trainer(model, SGD(0.5, 0.9), SingleProcess(), batch_size=64, exchange=exchange)
        trainer.prepare(data)
        sizes = [piece.rows.stop - piece.rows.start for piece in exchange.pieces(64)]
        assert sum(sizes) == 64
        # Whole micro-shards, and so it may be fewer parts.
        assert len(sizes) == 1 if exchange.parts == 1 else len(sizes) >= min(parts, 64 // (exchange.micro_rows or 1))
        trainer.train(data, data, 3)
        return model.params

    np.testing.assert_allclose(train(make(parts=parts)), train(make()), rtol=0, atol=1e-12)


def test_what_joins_all_rows_can_not_take_parts() -> None:
    class Joining(Layer):
        joins_rows = True

    data = Dataset(*classified_rows(50), classes=4, scale=Scale(255.0))
    exchange = FloatExchange(parts=2)
    trainer = Trainer(Sequential(Dense(9), Joining(), Dense(4)), SGD(), SingleProcess(), exchange=exchange)
    with pytest.raises(InputError, match=r"layer 2 \(Joining\) needs all rows of a batch at once.*leave --accumulate"):
        trainer.train(data, data, 1)
