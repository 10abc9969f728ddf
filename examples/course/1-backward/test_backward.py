"""Tests of exercise 1, in the order in which to mend what they find."""

from types import ModuleType

import numpy as np
import pytest
from gradcheck import directional_error

from ddp_numpy import Dense, ReLU, Sequential
from ddp_numpy.nn import SoftmaxCrossEntropy

ROWS, INPUTS, HIDDEN, CLASSES = 7, 5, 6, 3
RIGHT = 1e-6  # relative error along a direction: central differences in float64 are no more exact than this


@pytest.fixture
def rng() -> np.random.Generator:
    """The same numbers in each test."""
    return np.random.default_rng(4)


def check_shapes(function: str, gradients: object, **expected: np.ndarray) -> None:
    """Each gradient has the shape of what it is the gradient of."""
    assert isinstance(gradients, tuple), f"{function} returned no tuple of gradients: see its docstring"
    assert len(gradients) == len(expected), (
        f"{function} returned {len(gradients)} gradients, not {len(expected)}: {', '.join(expected)}"
    )
    for gradient, (name, array) in zip(gradients, expected.items(), strict=True):
        assert np.shape(gradient) == array.shape, (
            f"{function}: {name} has the shape {np.shape(gradient)}, and must have {array.shape}, as the array that it "
            "is the gradient of: look at which axis of the product is summed"
        )


def test_dense_backward(exercise: ModuleType, rng: np.random.Generator) -> None:
    """Each of the three gradients of the sum of dY * Y, along random directions."""
    X, W, b = rng.normal(size=(ROWS, INPUTS)), rng.normal(size=(INPUTS, CLASSES)), rng.normal(size=CLASSES)
    dY = rng.normal(size=(ROWS, CLASSES))
    gradients = exercise.dense_backward(X, W, dY)
    check_shapes("dense_backward", gradients, dX=X, dW=W, db=b)
    dX, dW, db = gradients

    def value() -> float:
        return float((dY * (X @ W + b)).sum())

    for name, x, gradient, hint in (
        ("dW", W, dW, "W[i, o] changes output o of each row r by X[r, i], so sum X[r, i] dY[r, o] over r"),
        ("db", b, db, "b[o] changes output o of each row, so sum dY[r, o] over r; a mean is too small"),
        ("dX", X, dX, "X[r, i] changes each output o of its row by W[i, o], so sum W[i, o] dY[r, o] over o"),
    ):
        assert directional_error(value, x, gradient) < RIGHT, (
            f"dense_backward: {name} is not the slope of the loss. {hint}"
        )


@pytest.mark.filterwarnings("ignore")  # that a mean of nothing is not a number
def test_dense_backward_of_no_rows(exercise: ModuleType, rng: np.random.Generator) -> None:
    """A rank may get no row of the last batch; its gradient is 0."""
    X, W, dY = np.zeros((0, INPUTS)), rng.normal(size=(INPUTS, CLASSES)), np.zeros((0, CLASSES))
    gradients = exercise.dense_backward(X, W, dY)
    check_shapes("dense_backward of 0 rows", gradients, dX=X, dW=W, db=np.zeros(CLASSES))
    assert not gradients[1].any(), "dense_backward of 0 rows: dW must be 0, as a sum of nothing is"
    assert not gradients[2].any(), "dense_backward of 0 rows: db must be 0, as a sum of nothing is; a mean is not"


def test_relu_backward(exercise: ModuleType) -> None:
    """Where X is above 0 dY passes, and elsewhere nothing does."""
    X, dY = np.array([[-2.0, 0.0, 3.0], [0.5, -0.1, 0.0]]), np.array([[1.0, 2.0, -3.0], [-4.0, 5.0, 6.0]])
    X_before, dY_before = X.copy(), dY.copy()
    dX = exercise.relu_backward(X, dY)
    assert np.array_equal(dY, dY_before), (
        "relu_backward changed dY: somebody else may still need that array, so write into a new one"
    )
    assert np.array_equal(X, X_before), "relu_backward changed X: write into a new array"
    right = np.array([[0.0, 0.0, -3.0], [-4.0, 0.0, 0.0]])
    assert np.array_equal(dX[X < 0], right[X < 0]), (
        "relu_backward: where X is negative, Y is 0 whatever X is, so dX must be 0"
    )
    assert np.array_equal(dX[X > 0], right[X > 0]), (
        "relu_backward: where X is positive, Y is X, so dX must be dY, also a negative dY"
    )
    assert np.array_equal(dX[X == 0], right[X == 0]), "relu_backward: where X is 0, take 0 as the derivative"


def test_cross_entropy_backward(exercise: ModuleType, rng: np.random.Generator) -> None:
    """Of the mean loss of a batch that is all here, along random directions."""
    logits, y = rng.normal(size=(ROWS, CLASSES)), rng.integers(0, CLASSES, ROWS)
    before = logits.copy()
    dlogits = exercise.cross_entropy_backward(logits, y, ROWS)
    assert np.array_equal(logits, before), "cross_entropy_backward changed logits: write into a new array"
    assert np.shape(dlogits) == logits.shape, (
        f"cross_entropy_backward returned the shape {np.shape(dlogits)}, and must return that of logits, {logits.shape}"
    )
    assert np.abs(dlogits.sum(axis=1)).max() < 1e-12, (
        "cross_entropy_backward: the gradient of a row must add up to 0, as softmax does not change if all its logits "
        "grow alike. It is the probabilities, with 1 subtracted at the right class alone"
    )

    def value() -> float:
        return float(exercise.cross_entropy(logits, y).mean())

    assert directional_error(value, logits, dlogits) < RIGHT, (
        "cross_entropy_backward: this is not the slope of the mean loss. Of a row it is (probabilities - one-hot), "
        "divided by global_rows: look at the sign, the class and the division"
    )


def test_cross_entropy_backward_divides_by_the_global_rows(exercise: ModuleType, rng: np.random.Generator) -> None:
    """Here are 7 of the 64 rows of a batch."""
    logits, y = rng.normal(size=(ROWS, CLASSES)), rng.integers(0, CLASSES, ROWS)
    whole, part = (exercise.cross_entropy_backward(logits, y, rows) for rows in (ROWS, 64))
    assert np.allclose(part * 64, whole * ROWS, rtol=1e-12), (
        f"cross_entropy_backward: {ROWS} rows of a global batch of 64 must be divided by 64, not by {ROWS}. Otherwise "
        "the sum over ranks is too large"
    )


def test_cross_entropy_backward_of_large_logits(exercise: ModuleType) -> None:
    """The exponential of 1000 is too large for a float64."""
    logits, y = np.array([[1000.0, 0.0, -1000.0]]), np.array([1])
    with np.errstate(all="ignore"):
        dlogits = exercise.cross_entropy_backward(logits, y, 1)
    assert np.isfinite(dlogits).all(), (
        "cross_entropy_backward: logits of 1000 make it inf or nan. Subtract each row's largest logit first, as "
        "cross_entropy does: the softmax stays the same"
    )
    assert np.allclose(dlogits, [[1.0, -1.0, 0.0]]), "cross_entropy_backward: wrong at logits of 1000"


def test_network_backward(exercise: ModuleType, rng: np.random.Generator) -> None:
    """The same gradients as the package computes, for this rank's 7 rows of a batch of 20."""
    X, y = rng.normal(size=(ROWS, INPUTS)), rng.integers(0, CLASSES, ROWS)
    model = Sequential(Dense(HIDDEN), ReLU(), Dense(CLASSES), dtype=np.float64)
    model.build((INPUTS,))
    model.initialize(rng)
    model.params += 0.1 * rng.normal(size=model.params.shape)  # so that no bias is 0
    loss, (first, _, last) = SoftmaxCrossEntropy(CLASSES, np.float64), model.layers
    loss.forward(model.forward(X), y)
    model.attach_grads(np.zeros_like(model.params))
    model.backward(loss.backward(20))
    for layer in model.layers:
        layer.write_gradients()
    assert isinstance(first, Dense)
    assert isinstance(last, Dense)
    gradients = exercise.network_backward(X, y, 20, first.W, first.b, last.W, last.b)
    expected = {"dW1": first.dW, "db1": first.db, "dW2": last.dW, "db2": last.db}
    check_shapes("network_backward", gradients, **expected)
    hints = {
        "db2": "it comes from cross_entropy_backward of the logits, with global_rows passed on",
        "dW2": "the last layer took the output of ReLU, so that is its X",
        "db1": "the gradient goes back through the last layer, and then through relu_backward of ReLU's input",
        "dW1": "the first layer took X itself",
    }
    for name, hint in hints.items():
        own = gradients[list(expected).index(name)]
        assert np.allclose(own, expected[name], rtol=1e-9, atol=1e-12), (
            f"network_backward: {name} is not what ddp_numpy computes: {hint}"
        )
