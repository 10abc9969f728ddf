"""What dropout draws: a function of seed, step, layer and global row, and of nothing else; and its distribution."""

import itertools

import numpy as np
import pytest

from ddp_numpy import Dropout, InputError, Sequential
from ddp_numpy.nn import Context

FEATURES = 1000


def masks(
    number: int = 0,
    rows: slice = slice(0, 40),
    step: int = 0,
    seed: int = 1,
    rate: float = 0.5,
    features: int = FEATURES,
) -> np.ndarray:
    """Which numbers stay (rows, features), of the dropout layer with this number, from 0 on, in a model of two."""
    model = Sequential(Dropout(rate), Dropout(rate))
    model.build((features,))
    context = Context(training=True, seed=seed, step=step, first_row=rows.start, rows=rows.stop - rows.start)
    return model.layers[number].forward(np.ones((context.rows, features), np.float32), context) > 0


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_the_share_that_stays_and_the_sum(rate: float) -> None:
    model = Sequential(Dropout(rate))
    model.build((FEATURES,))
    Y = model.forward(np.ones((400, FEATURES), np.float32), Context(training=True, rows=400))
    spread = np.sqrt(rate * (1 - rate) / Y.size)
    assert abs((Y == 0).mean() - rate) < 4 * spread
    assert set(np.unique(Y)) == {0, np.float32(1 / (1 - rate))}


@pytest.mark.parametrize("features", [1, 7, 8, 12, 1000])
def test_a_rows_mask_is_the_same_in_any_share(features: int) -> None:
    whole = masks(features=features)
    for start, stop in itertools.pairwise((0, 0, 3, 17, 40)):
        np.testing.assert_array_equal(masks(rows=slice(start, stop), features=features), whole[start:stop])


def test_masks_of_layers_rows_steps_and_seeds_are_independent() -> None:
    base = masks()
    others = {
        "layer": masks(number=1),
        "step": masks(step=1),
        "seed": masks(seed=2),
        "row": np.roll(base, 1, axis=0),
        "next batch": masks(rows=slice(40, 80)),
        "a far step": masks(step=2**40),
    }
    for name, other in others.items():
        # Of independent fair coins half agree, and the number of those that do has a spread of sqrt(n) / 2.
        for shift in (0, 1, 7):
            agreeing = (base == np.roll(other, shift, axis=1)).sum()
            assert abs(agreeing - base.size / 2) < 5 * np.sqrt(base.size) / 2, (name, shift)
    for first, second in itertools.combinations([base, *others.values()], 2):
        assert not np.array_equal(first, second)


def test_evaluation_drops_nothing() -> None:
    model = Sequential(Dropout(0.9))
    model.build((5,))
    X = np.ones((3, 5), np.float32)
    assert model.forward(X) is X


@pytest.mark.parametrize("rate", [-0.1, 1, "0.5", True])
def test_a_rate_that_can_not_be(rate: float) -> None:
    with pytest.raises(InputError, match=r"Dropout: rate is .*, and must be a number from 0 to 0\.99"):
        Dropout(rate)
