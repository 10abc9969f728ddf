import itertools
import math
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ddp_numpy import GELU, InputError, LeakyReLU, ReLU, Sequential, Sigmoid, SiLU, Tanh
from ddp_numpy.nn import LAYERS, Layer, normal

TABLE: dict[str, Callable[[], Layer]] = {
    "ReLU": ReLU,
    "LeakyReLU": LeakyReLU,
    "LeakyReLU(slope=0.2)": lambda: LeakyReLU(slope=0.2),
    "SiLU": SiLU,
    "GELU": GELU,
    "GELU(approximate=True)": lambda: GELU(approximate=True),
    "Tanh": Tanh,
    "Sigmoid": Sigmoid,
}
every_activation = pytest.mark.parametrize("make", TABLE.values(), ids=TABLE.keys())
every_name = pytest.mark.parametrize("name", TABLE)
both_types = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def built(make: Callable[[], Layer], shape: tuple[int, ...], dtype: Any = np.float64) -> Layer:
    layer = make()
    assert layer.build(shape, dtype) == shape
    return layer


def results(layer: Layer, X: np.ndarray, dY: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    Y = layer.forward(X).copy()
    dX = layer.backward(dY)
    assert dX is not None
    return Y, dX.copy()


def cdf(X: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    Phi, density = np.empty_like(X), np.empty_like(X)
    normal.cdf_and_density(X, Phi, density, np.empty((normal.SCRATCH, X.size), X.dtype))
    return Phi, density


@every_name
def test_as_pytorch(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    module = {
        "LeakyReLU(slope=0.2)": lambda: torch.nn.LeakyReLU(0.2),
        "GELU(approximate=True)": lambda: torch.nn.GELU(approximate="tanh"),
    }.get(name, getattr(torch.nn, name.partition("(")[0]))()
    X = np.concatenate([rng.standard_normal(5000), np.linspace(-40, 40, 4999), [0, 1e4, -1e4]]).reshape(-1, 3)
    dY = rng.standard_normal(X.shape)
    Y, dX = results(built(TABLE[name], (3,)), X, dY)
    x = torch.tensor(X, requires_grad=True)
    y = module(x)
    y.backward(torch.tensor(dY))
    np.testing.assert_allclose(Y, y.detach().numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dX, x.grad.numpy(), rtol=1e-12, atol=1e-12)


def test_cdf_is_that_of_erf() -> None:
    u = np.linspace(-7, 7, 20_001)
    Phi, _ = cdf(u * math.sqrt(2))
    erf = np.array([math.erf(value) for value in u])
    assert np.abs((2 * Phi - 1) - erf).max() < 7e-16  # six units in the last place below 1


@pytest.mark.parametrize(("dtype", "least", "tolerance"), [(np.float64, -37, 4e-13), (np.float32, -13, 1e-5)])
def test_far_probabilities_have_all_their_digits(dtype: type, least: float, tolerance: float) -> None:
    """But those that x^2 loses when it is rounded: up to x^2 / 2 units in the last place of exp(-x^2 / 2)."""
    X = np.linspace(least, 9, 5001).astype(dtype)
    Phi, density = cdf(X)
    right = [math.erfc(-x / math.sqrt(2)) / 2 for x in X.astype(np.float64)]
    np.testing.assert_allclose(Phi, right, rtol=tolerance)
    np.testing.assert_allclose(density, np.exp(-(X.astype(np.float64) ** 2) / 2) / math.sqrt(2 * math.pi), tolerance)


def test_cdf_at_zero_and_infinity() -> None:
    for dtype in (np.float32, np.float64):
        Phi, density = cdf(np.array([0.0, -0.0, np.inf, -np.inf, np.nan], dtype))
        np.testing.assert_allclose(Phi, [0.5, 0.5, 1, 0, np.nan], rtol=1e-7)
        assert density[2] == density[3] == 0
        assert Phi[2:4].tolist() == [1, 0]


@every_activation
def test_float32_is_near_float64(make: Callable[[], Layer]) -> None:
    """SiLU and GELU multiply 1 - S, which has few digits where S is almost 1, by numbers up to 60. So does PyTorch."""
    X = np.linspace(-12, 12, 40_001).astype(np.float32).reshape(-1, 1)
    dY = np.ones_like(X)
    small = results(built(make, (1,), np.float32), X, dY)
    large = results(built(make, (1,), np.float64), X.astype(np.float64), dY.astype(np.float64))
    for got, right, tolerance in zip(small, large, (2e-7, 3e-6), strict=True):
        assert got.dtype == np.float32
        assert (np.abs(got - right) <= tolerance * np.maximum(1, np.abs(right))).all()


@both_types
@every_activation
def test_huge_numbers(make: Callable[[], Layer], dtype: type) -> None:
    most = np.finfo(dtype).max
    X = np.array([[-most, -1e30, -1e4, -100, 100, 1e4, 1e30, most]], dtype).T
    Y, dX = results(built(make, (1,), dtype), X, np.ones_like(X))
    assert np.isfinite(Y).all()
    assert np.isfinite(dX).all()
    unbounded = isinstance(make(), ReLU | LeakyReLU | SiLU | GELU)
    np.testing.assert_array_equal(Y[4:], X[4:] if unbounded else 1)
    np.testing.assert_array_equal(dX[4:], 1 if unbounded else 0)
    if not isinstance(make(), LeakyReLU):
        np.testing.assert_allclose(Y[:4], -1 if isinstance(make(), Tanh) else 0, atol=1e-40)
        np.testing.assert_allclose(dX[:4], 0, atol=1e-40)


@every_activation
def test_at_zero(make: Callable[[], Layer]) -> None:
    X = np.array([[0.0], [-0.0]])
    layer = built(make, (1,))
    Y, dX = results(layer, X, np.ones_like(X))
    assert ((0.5 if isinstance(layer, Sigmoid) else 0) == Y).all()
    slopes = {"ReLU": 0, "Tanh": 1, "Sigmoid": 0.25, "LeakyReLU": 0.01, "LeakyReLU(slope=0.2)": 0.2}
    assert dX == pytest.approx(slopes.get(str(layer), 0.5))


@both_types
@every_activation
def test_a_number_has_the_same_bits_wherever_it_stands(
    make: Callable[[], Layer], dtype: type, rng: np.random.Generator
) -> None:
    """Whole rows, rows in shards, single rows, more numbers than go through at a time, columns of another array."""
    wide = (4 * rng.standard_normal((6 * 700, 9))).astype(dtype)
    wide_dY = rng.standard_normal(wide.shape).astype(dtype)
    X, dY = np.ascontiguousarray(wide[:, :5]), np.ascontiguousarray(wide_dY[:, :5])
    layer = built(make, (5,), dtype)
    Y, dX = results(layer, X, dY)

    def assert_same(X: np.ndarray, dY: np.ndarray, rows: slice) -> None:
        for got, whole in zip(results(layer, X, dY), (Y, dX), strict=True):
            assert got.shape == X.shape
            assert got.tobytes() == whole[rows].tobytes()

    assert_same(X.reshape(6, 700, 5), dY.reshape(6, 700, 5), slice(None))
    assert_same(wide[:, :5], wide_dY[:, :5], slice(None))
    for start, stop in itertools.combinations(range(23), 2):
        assert_same(X[start:stop], dY[start:stop], slice(start, stop))
    single = built(make, (1,), dtype)
    for got, whole in zip(results(single, wide[:, 2:3], wide_dY[:, 2:3]), (Y, dX), strict=True):
        assert got.tobytes() == whole[:, 2].tobytes()
    images = built(make, (5, 2, 3), dtype)
    image_results = results(images, X[:4200].reshape(-1, 5, 2, 3), dY[:4200].reshape(-1, 5, 2, 3))
    for got, whole in zip(image_results, (Y, dX), strict=True):
        assert got.tobytes() == whole.tobytes()


@every_activation
def test_no_rows_and_rows_that_only_fill_up(make: Callable[[], Layer], rng: np.random.Generator) -> None:
    layer = built(make, (4,))
    assert results(layer, np.empty((0, 4)), np.empty((0, 4)))[1].shape == (0, 4)
    assert results(layer, np.empty((3, 0, 4)), np.empty((3, 0, 4)))[1].shape == (3, 0, 4)
    X, dY = 100 * rng.standard_normal((2, 5, 4)), rng.standard_normal((2, 5, 4))
    dY[1, 2:] = 0
    assert (results(layer, X, dY)[1][1, 2:] == 0).all()


@every_activation
def test_a_warm_step_allocates_no_arrays(make: Callable[[], Layer], rng: np.random.Generator) -> None:
    layer = built(make, (300,), np.float32)
    X = rng.standard_normal((64, 300)).astype(np.float32)
    layer.forward(X)
    layer.backward(X)
    tracemalloc.start()
    try:
        layer.forward(X)
        layer.backward(X)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        layer.forward(X)
        layer.backward(X)
        assert tracemalloc.get_traced_memory()[1] - before < 2048  # X has 76,800 bytes
    finally:
        tracemalloc.stop()


@every_activation
def test_results_may_lie_in_lent_memory(make: Callable[[], Layer], rng: np.random.Generator) -> None:
    X, dY = rng.standard_normal((2, 6, 4))
    layer = built(make, (4,))
    Y, dX = results(layer, X, dY)
    lent = np.empty((2, 6, 4))
    assert layer.outputs is not None
    assert layer.input_gradients is not None
    layer.outputs.lend(lent[0])
    layer.input_gradients.lend(lent[1])
    layer.forward(X)
    layer.backward(dY)
    np.testing.assert_array_equal(lent, [Y, dX])


@every_name
def test_name_and_config(name: str) -> None:
    layer = TABLE[name]()
    assert str(layer) == name
    again = LAYERS[type(layer).__name__](**layer.config())
    assert str(again) == name
    assert again.config() == layer.config()
    model = Sequential(layer)
    model.build((3,))
    assert model.description()["layers"] == [{"type": type(layer).__name__, **layer.config()}]


@pytest.mark.parametrize("slope", [-0.1, 1.1, "0.1", None, True, math.nan])
def test_a_slope_that_can_not_be(slope: Any) -> None:
    with pytest.raises(InputError, match=r"LeakyReLU: slope is .*, and must be a number from 0 to 1"):
        LeakyReLU(slope)


def test_approximate_is_true_or_false() -> None:
    with pytest.raises(InputError, match="GELU: approximate is 'tanh', and must be true or false"):
        GELU(approximate="tanh")  # type: ignore[arg-type]


def test_relu_of_many_numbers_is_that_of_few(rng: np.random.Generator) -> None:
    X, dY = rng.standard_normal((2, 100, 1500))
    Y, dX = results(built(TABLE["ReLU"], (1500,)), X, dY)
    np.testing.assert_array_equal(Y, np.maximum(X, 0))
    np.testing.assert_array_equal(dX, dY * (X > 0))
