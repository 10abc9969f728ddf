import itertools
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradcheck import directional_error

from ddp_numpy import Huber, InputError, Loss, MeanSquaredError, SoftmaxCrossEntropy

ROWS, OUTPUTS = 12, 4
TOLERANCE = 1e-7
WEIGHTS = [0.5, 1.0, 3.0, 0.25]

Make = Callable[[int, Any], Loss]
TABLE: dict[str, Make] = {
    "SoftmaxCrossEntropy": SoftmaxCrossEntropy,
    "smoothing=0.1": lambda outputs, dtype: SoftmaxCrossEntropy(outputs, dtype, smoothing=0.1),
    "smoothing=1": lambda outputs, dtype: SoftmaxCrossEntropy(outputs, dtype, smoothing=1),
    "weights": lambda outputs, dtype: SoftmaxCrossEntropy(outputs, dtype, weights=WEIGHTS),
    "weights and smoothing": lambda outputs, dtype: SoftmaxCrossEntropy(outputs, dtype, 0.1, WEIGHTS),
    "MeanSquaredError": MeanSquaredError,
    "Huber": Huber,
    "delta=0.3": lambda outputs, dtype: Huber(outputs, dtype, delta=0.3),
}
every_loss = pytest.mark.parametrize("name", TABLE)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def batch(name: str, rng: np.random.Generator, rows: int = ROWS, dtype: Any = np.float64) -> tuple[Any, Any]:
    """Outputs (rows, OUTPUTS) of a model, and targets for this loss."""
    P = (2 * rng.standard_normal((rows, OUTPUTS))).astype(dtype)
    if isinstance(TABLE[name](OUTPUTS, dtype), SoftmaxCrossEntropy):
        return P, rng.integers(OUTPUTS, size=rows)
    return P, rng.standard_normal((rows, OUTPUTS)).astype(dtype)


@every_loss
def test_gradient(name: str, rng: np.random.Generator) -> None:
    P, y = batch(name, rng)
    loss = TABLE[name](OUTPUTS, np.float64)

    def value() -> float:
        return float(loss.forward(P, y)[0].sum()) / (3 * ROWS)  # as if these were a third of the global batch

    value()
    assert directional_error(value, P, loss.backward(3 * ROWS).copy()) < TOLERANCE


@every_loss
def test_as_pytorch(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    module = {
        "SoftmaxCrossEntropy": torch.nn.CrossEntropyLoss(),
        "smoothing=0.1": torch.nn.CrossEntropyLoss(label_smoothing=0.1),
        "smoothing=1": torch.nn.CrossEntropyLoss(label_smoothing=1.0),
        "weights": lambda p, y: torch.nn.CrossEntropyLoss(torch.tensor(WEIGHTS).double(), reduction="sum")(p, y) / 500,
        "weights and smoothing": None,  # PyTorch weights each class of a smoothed target by itself
        "MeanSquaredError": torch.nn.MSELoss(),
        "Huber": torch.nn.HuberLoss(),
        "delta=0.3": torch.nn.HuberLoss(delta=0.3),
    }[name]
    if module is None:
        return
    P, y = batch(name, rng, 500)
    loss = TABLE[name](OUTPUTS, np.float64)
    losses, _ = loss.forward(P, y)
    p = torch.tensor(P, requires_grad=True)
    value = module(p, torch.tensor(y))
    value.backward()
    assert losses.mean() == pytest.approx(value.item(), rel=1e-12)
    np.testing.assert_allclose(loss.backward(500), p.grad.numpy(), rtol=1e-12, atol=1e-15)


@every_loss
def test_rows_that_do_not_count(name: str, rng: np.random.Generator) -> None:
    P, y = batch(name, rng)
    loss = TABLE[name](OUTPUTS, np.float64)
    all_losses, all_scores = (values.copy() for values in loss.forward(P, y))
    gradient = loss.backward(5).copy()
    for shape in (P.shape, (3, 4, OUTPUTS)):
        for rows in (0, 5, ROWS):
            losses, scores = loss.forward(P.reshape(shape), y, rows)
            assert scores.dtype == (np.bool_ if y.dtype == np.int64 else np.float64)
            np.testing.assert_allclose(losses, all_losses[:rows], rtol=1e-14)
            np.testing.assert_allclose(scores.astype(float), all_scores[:rows].astype(float), rtol=1e-14)
            dP = loss.backward(5)
            assert dP.shape == shape
            np.testing.assert_allclose(dP.reshape(P.shape)[:rows], gradient[:rows], rtol=1e-14, atol=1e-17)
            assert (dP.reshape(P.shape)[rows:] == 0).all()


@both_types
@pytest.mark.parametrize("shard_rows", [1, 3, 16])
@every_loss
def test_a_shard_has_the_same_bits_whatever_stands_beside_it(
    name: str, shard_rows: int, dtype: type, rng: np.random.Generator
) -> None:
    P, y = batch(name, rng, 7 * shard_rows, dtype)
    P, y = P.reshape(7, shard_rows, OUTPUTS), y.reshape(7, shard_rows, *y.shape[1:])
    loss = TABLE[name](OUTPUTS, dtype)

    def computed(shards: slice) -> list[tuple[bytes, bytes]]:
        losses, _ = loss.forward(P[shards], y[shards].reshape(-1, *y.shape[2:]))
        assert losses.dtype == dtype
        losses, dP = losses.reshape(-1, shard_rows), loss.backward(7 * shard_rows)
        assert dP.dtype == dtype
        return [(a.tobytes(), b.tobytes()) for a, b in zip(losses, dP, strict=True)]

    whole = computed(slice(7))
    for start, stop in itertools.combinations(range(8), 2):
        assert computed(slice(start, stop)) == whole[start:stop]


@every_loss
def test_no_rows(name: str, rng: np.random.Generator) -> None:
    P, y = batch(name, rng, 0)
    loss = TABLE[name](OUTPUTS, np.float64)
    losses, right = loss.forward(P, y)
    assert losses.shape == right.shape == (0,)
    assert loss.backward(5).shape == (0, OUTPUTS)


@every_loss
def test_the_gradient_may_lie_in_lent_memory(name: str, rng: np.random.Generator) -> None:
    P, y = batch(name, rng)
    loss = TABLE[name](OUTPUTS, np.float64)
    loss.forward(P, y)
    own = loss.backward(ROWS).copy()
    lent = np.empty_like(P)
    loss.gradients.lend(lent)
    loss.forward(P, y, 9)
    loss.backward(ROWS)
    np.testing.assert_array_equal(lent[:9], own[:9])
    assert not lent[9:].any()


def test_without_smoothing_the_bits_are_those_of_the_right_class_alone(rng: np.random.Generator) -> None:
    P, y = batch("SoftmaxCrossEntropy", rng, 300, np.float32)
    found = []
    for loss in (SoftmaxCrossEntropy(OUTPUTS, np.float32), SoftmaxCrossEntropy(OUTPUTS, np.float32, smoothing=0)):
        losses, right = loss.forward(P, y)
        found.append((losses.tobytes(), right.tobytes(), loss.backward(300).tobytes()))
    assert found[0] == found[1]


def test_smoothing_is_a_mean_over_the_target(rng: np.random.Generator) -> None:
    P, y = batch("smoothing=0.1", rng)
    target = np.full((ROWS, OUTPUTS), 0.1 / OUTPUTS)
    target[range(ROWS), y] += 0.9
    log_p = P - np.log(np.exp(P).sum(axis=1, keepdims=True))
    losses, right = SoftmaxCrossEntropy(OUTPUTS, np.float64, smoothing=0.1).forward(P, y)
    np.testing.assert_allclose(losses, -(target * log_p).sum(axis=1), rtol=1e-12)
    np.testing.assert_array_equal(right, P.argmax(axis=1) == y)


def test_weights_multiply_the_rows_of_their_class(rng: np.random.Generator) -> None:
    P, y = batch("weights", rng)
    for smoothing in (0.0, 0.2):
        plain = SoftmaxCrossEntropy(OUTPUTS, np.float64, smoothing)
        weighted = SoftmaxCrossEntropy(OUTPUTS, np.float64, smoothing, WEIGHTS)
        factors = np.array(WEIGHTS)[y]
        np.testing.assert_allclose(weighted.forward(P, y)[0], plain.forward(P, y)[0] * factors, rtol=1e-14)
        np.testing.assert_allclose(
            weighted.backward(7), plain.backward(7) * factors[:, np.newaxis], rtol=1e-12, atol=1e-17
        )


@pytest.mark.parametrize("name", ["MeanSquaredError", "Huber"])
def test_one_output_takes_a_vector(name: str, rng: np.random.Generator) -> None:
    P, y = rng.standard_normal((6, 1)).astype(np.float32), np.arange(6)
    found = []
    for targets in (y, y.reshape(6, 1), y.astype(np.float64), y.astype(np.uint8)):
        loss = TABLE[name](1, np.float32)
        losses, squares = loss.forward(P, targets)
        np.testing.assert_allclose(squares, (P[:, 0] - y) ** 2, rtol=1e-6)
        found.append((losses.tobytes(), loss.backward(6).tobytes()))
    assert len(set(found)) == 1


@pytest.mark.parametrize("shape", [(6,), (6, 1), (1, OUTPUTS), (5, OUTPUTS), (6 * OUTPUTS,)])
def test_targets_of_another_shape_are_one_line(shape: tuple[int, ...]) -> None:
    loss = MeanSquaredError(OUTPUTS, np.float64)
    with pytest.raises(InputError, match=r"y has the shape .*, and must have \(6, 4\), like the predictions"):
        loss.forward(np.zeros((6, OUTPUTS)), np.zeros(shape))


def test_huber_of_a_large_error() -> None:
    loss = Huber(1, np.float64)
    assert loss.forward(np.array([[-3.0], [3.0], [0.5], [1.0]]), np.zeros(4))[0].tolist() == [2.5, 2.5, 0.125, 0.5]
    assert loss.backward(1).ravel().tolist() == [-1, 1, 0.5, 1]
    loss = Huber(1, np.float32)
    losses, _ = loss.forward(np.array([[1e30]], np.float32), np.zeros(1))
    assert losses[0] == np.float32(1e30)


@pytest.mark.parametrize("name", ["MeanSquaredError", "Huber"])
def test_a_warm_step_allocates_no_arrays(name: str, rng: np.random.Generator) -> None:
    P, y = batch(name, rng, 5000, np.float32)
    loss = TABLE[name](OUTPUTS, np.float32)
    tracemalloc.start()
    try:
        for _ in range(2):
            loss.forward(P, y)
            loss.backward(5000)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        loss.forward(P, y)
        loss.backward(5000)
        assert tracemalloc.get_traced_memory()[1] - before < 4096  # P has 80,000 bytes
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: SoftmaxCrossEntropy(3, np.float32, 1.5),
            "SoftmaxCrossEntropy: smoothing is 1.5, and must be a number",
        ),
        (lambda: Huber(3, np.float32, 0), "Huber: delta is 0, and must be a number from 1e-30 to 1e"),
        (
            lambda: MeanSquaredError(0, np.float32),
            "MeanSquaredError: outputs is 0, and must be a whole number from 1 to",
        ),
    ],
)
def test_arguments_that_can_not_be(make: Callable[[], Loss], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
