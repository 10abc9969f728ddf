"""Exact sums: what fits adds up to the last bit in any order, and what doesn't is found."""

import numpy as np
import pytest

from ddp_numpy import SGD, Dense, GridExchange, Sequential, SingleProcess, SoftmaxCrossEntropy
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
