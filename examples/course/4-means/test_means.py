"""Tests of exercise 4, in the order in which to mend what they find."""

from types import ModuleType

import numpy as np
import pytest

RIGHT = {"rtol": 1e-12, "atol": 1e-14}  # equal up to the rounding of float64
SIZES = ([3, 3], [1, 5], [2, 1, 4], [5, 0, 1], [1, 1, 1, 61])


@pytest.mark.parametrize(("factor", "ranks"), [(2, 2), (5, 2), (3, 4), (10, 3)])
def test_make_it_wrong(exercise: ModuleType, factor: int, ranks: int) -> None:
    """The mean of means is so many times the mean."""
    losses, sizes = exercise.make_it_wrong(factor, ranks)
    told = f"make_it_wrong({factor}, {ranks}) returned {len(losses)} losses and the sizes {list(sizes)}"
    assert len(sizes) == ranks, f"{told}: there must be a size for each of the {ranks} ranks"
    assert min(sizes) >= 1, f"{told}: each rank must have at least one row"
    assert sum(sizes) == len(losses), f"{told}: the sizes must add up to the number of losses"
    assert np.min(losses) >= 0, f"{told}: a cross-entropy is never negative, so take no negative loss"
    assert np.max(losses) > 0, f"{told}: if all losses are 0, so are both means; let one be above 0"
    wrong = float(exercise.mean_of_means(exercise.rank_means(np.asarray(losses, float), sizes), np.array(sizes)))
    times = wrong / float(np.mean(losses))
    assert times != pytest.approx(1), (
        f"{told}: both means are {wrong:g}. Uneven sizes alone don't do it: the losses must differ between ranks, too"
    )
    assert times == pytest.approx(factor, rel=1e-12), (
        f"{told}: the mean of means is {times:g} times the mean. How much does a row count that has a rank of its own?"
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_predicted_error(exercise: ModuleType, sizes: list[int]) -> None:
    """Exact, of any losses."""
    losses = np.random.default_rng(6).gamma(1.0, size=sum(sizes))
    means = exercise.rank_means(losses, sizes)
    error = float(exercise.mean_of_means(means, np.array(sizes))) - float(losses.mean())
    predicted = exercise.predicted_error(means, np.array(sizes))
    assert np.shape(predicted) == (), f"predicted_error of single losses has the shape {np.shape(predicted)}, not ()"
    assert not (np.isclose(predicted, -error, **RIGHT) and abs(error) > 1e-9), (
        "predicted_error has the wrong sign: it is the mean of means minus the mean over all rows"
    )
    assert np.isclose(predicted, error, **RIGHT), (
        f"predicted_error of the sizes {sizes} is {float(predicted):.6f}, and the error is {error:.6f}. In the mean of "
        "means rank r counts 1 / R, and in the mean over all rows it counts sizes[r] / n"
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_predicted_error_of_a_gradient(exercise: ModuleType, sizes: list[int]) -> None:
    """The same of vectors: each rank's mean is (D,)."""
    gradients = np.random.default_rng(7).normal(size=(sum(sizes), 4))
    means = exercise.rank_means(gradients, sizes)
    error = exercise.mean_of_means(means, np.array(sizes)) - gradients.mean(axis=0)
    predicted = exercise.predicted_error(means, np.array(sizes))
    assert np.shape(predicted) == (4,), (
        f"predicted_error of gradients (R, 4) must have the shape (4,), and has {np.shape(predicted)}: sum over ranks"
    )
    assert np.allclose(predicted, error, **RIGHT), (
        f"predicted_error is right for losses, and wrong for gradients: {sizes}"
    )


@pytest.mark.parametrize("sizes", SIZES)
def test_global_mean(exercise: ModuleType, sizes: list[int]) -> None:
    """The mean over all rows, from the means of ranks."""
    gradients = np.random.default_rng(8).normal(size=(sum(sizes), 4))
    mean = exercise.global_mean(exercise.rank_means(gradients, sizes), np.array(sizes))
    assert np.shape(mean) == (4,), f"global_mean of (R, 4) must have the shape (4,), and has {np.shape(mean)}"
    assert np.allclose(mean, gradients.mean(axis=0), **RIGHT), (
        f"global_mean of the sizes {sizes} is not the mean over all rows. sizes[r] * means[r] is the sum over the rows "
        "of rank r; add these sums up, and divide once, by the number of all rows"
    )


def test_training(exercise: ModuleType) -> None:
    """One process and three ranks end with the same weights, if the mean is right."""
    rng = np.random.default_rng(9)
    X = rng.normal(size=(64, 3)) * np.linspace(0.5, 2.0, 64)[:, np.newaxis]
    y = X @ np.array([1.0, -1.0, 2.0]) + rng.normal(size=64)
    shared, alone = [[3, 3, 4]] * 6 + [[2, 1, 1]], [[10]] * 6 + [[4]]
    expected = exercise.train(X, y, alone, exercise.global_mean)
    wrong = exercise.train(X, y, shared, exercise.mean_of_means)
    assert np.abs(wrong - expected).max() > 1e-3, "mean_of_means and train are given: leave them as they are"
    assert np.allclose(exercise.train(X, y, shared, exercise.global_mean), expected, rtol=1e-9), (
        "train with global_mean ends with other weights on three ranks than on one"
    )
    sizes, gradients = shared[0], -y[:10, np.newaxis] * X[:10]
    first_wrong = exercise.train(X[:10], y[:10], [sizes], exercise.mean_of_means)
    first_right = exercise.train(X[:10], y[:10], [[10]], exercise.global_mean)
    error = -0.2 * exercise.predicted_error(exercise.rank_means(gradients, sizes), np.array(sizes))
    assert np.allclose(first_wrong - first_right, error, rtol=1e-9), (
        "predicted_error must explain how far apart the weights are after the first step: the rate 0.2 times the error"
    )
