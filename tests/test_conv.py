import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradcheck import directional_error
from memory import frugal_numpy

from benchmarks.step import allocated_by
from ddp_numpy import AvgPool2D, Conv2D, Dense, GlobalAvgPool, MaxPool2D, ReLU, Sequential
from ddp_numpy.nn import Context, Layer

# The arguments of a convolution, and the shape of its images.
CONVOLUTIONS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({}, (6, 6, 3)),
    ({}, (5, 8, 1)),
    ({"kernel": 1}, (4, 5, 3)),
    ({"kernel": 1, "stride": 2}, (5, 4, 3)),
    ({"kernel": 1, "padding": 1}, (3, 4, 2)),
    ({"kernel": 5, "padding": "valid"}, (7, 9, 2)),
    ({"kernel": (2, 3), "padding": 2}, (5, 6, 8)),
    ({"kernel": 3, "stride": 2}, (7, 8, 4)),
    ({"kernel": 3, "stride": 3}, (8, 7, 3)),
    ({"kernel": 2, "stride": 3, "padding": "valid"}, (9, 7, 5)),
    ({"kernel": 4, "stride": (2, 1), "padding": 1}, (7, 6, 3)),
    ({"kernel": 3, "dilation": 2}, (7, 5, 3)),
    ({"kernel": (3, 2), "stride": (1, 2), "dilation": (2, 3), "padding": 3}, (6, 7, 2)),
    ({"kernel": 3, "stride": (4, 6), "dilation": (6, 4), "padding": 7}, (9, 11, 3)),
    ({"kernel": (3, 4), "stride": 2, "padding": 5}, (4, 3, 8)),
    ({"kernel": 1, "stride": 3, "padding": 1}, (4, 5, 2)),
    ({"groups": 4}, (5, 6, 4)),
    ({"groups": 2, "stride": 2, "dilation": 2}, (7, 6, 2)),
    ({"groups": 4, "kernel": (1, 3), "padding": "valid", "filters": 4}, (3, 5, 4)),
]
# The same of a pool.
POOLS: list[tuple[dict[str, Any], tuple[int, int, int]]] = [
    ({}, (6, 8, 3)),
    ({}, (5, 7, 2)),
    ({"size": 3}, (9, 7, 1)),
    ({"size": 3, "stride": 2}, (8, 7, 2)),
    ({"size": 3, "stride": 2, "padding": 1}, (8, 7, 2)),
    ({"size": 2, "padding": "same"}, (5, 7, 3)),
    ({"size": (1, 3), "stride": 1, "padding": "same"}, (4, 5, 2)),
    ({"size": 2, "stride": 3}, (8, 7, 2)),
    ({"size": (3, 2), "stride": (1, 3), "padding": 1}, (4, 9, 2)),
    ({"size": (4, 5)}, (4, 5, 2)),
]
LAYERS_AND_SHAPES: list[tuple[Callable[[], Layer], tuple[int, int, int]]] = [
    *((lambda arguments=arguments: conv(**arguments), shape) for arguments, shape in CONVOLUTIONS),
    *((lambda arguments=arguments: MaxPool2D(**arguments), shape) for arguments, shape in POOLS),
    *((lambda arguments=arguments: AvgPool2D(**arguments), shape) for arguments, shape in POOLS),
    (GlobalAvgPool, (3, 4, 2)),
]
every_convolution = pytest.mark.parametrize(("arguments", "shape"), CONVOLUTIONS, ids=str)
every_pool = pytest.mark.parametrize(("arguments", "shape"), POOLS, ids=str)
every_layer = pytest.mark.parametrize(("make", "shape"), LAYERS_AND_SHAPES)


def conv(filters: int = 8, **arguments: Any) -> Conv2D:
    return Conv2D(filters, **arguments)


def built(*layers: Layer, shape: tuple[int, ...], dtype: type = np.float64) -> Sequential:
    model = Sequential(*layers, dtype=dtype)
    model.build(shape)
    rng = np.random.default_rng(4)
    model.initialize(rng)
    model.params += 0.1 * rng.standard_normal(model.params.shape).astype(dtype)
    model.attach_grads(np.full(model.params.size, np.nan, dtype))
    return model


def backward(model: Sequential, dY: np.ndarray) -> np.ndarray:
    """dX of a model of one layer; the gradients of the parameters too."""
    dX = model.layers[0].backward(dY)
    model.write_gradients()
    assert dX is not None
    return dX.copy()


def by_loops(X: np.ndarray, layer: Conv2D, W: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum that defines a convolution, term by term: X (B, H, W, C) with its border -> Y (B, H', W', F)."""
    kernel, stride, dilation = layer.kernel, layer.stride, layer.dilation
    sizes = [(X.shape[i + 1] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in range(2)]
    Y = np.zeros((len(X), *sizes, layer.filters)) + b
    depth = layer.filters // layer.groups
    for image, h, w, f in np.ndindex(*Y.shape):
        for i, j, c in np.ndindex(*W.shape[:3]):
            pixel = X[image, h * stride[0] + i * dilation[0], w * stride[1] + j * dilation[1], c]
            if layer.groups == 1:
                Y[image, h, w, f] += pixel * W[i, j, c, f]
            elif f // depth == c:
                Y[image, h, w, f] += pixel * W[i, j, c, f % depth]
    return Y


def bordered(X: np.ndarray, kernel: Any, stride: Any, padding: Any, dilation: Any = (1, 1), fill: float = 0) -> Any:
    """X (B, H, W, C) with its border: for "same" as TensorFlow has it."""
    sides = [(0, 0)]
    for size, length, step, distance in zip(X.shape[1:3], kernel, stride, dilation, strict=True):
        if padding == "same":
            total = max((-(-size // step) - 1) * step + distance * (length - 1) + 1 - size, 0)
            sides.append((total // 2, total - total // 2))
        else:
            sides.append((0, 0) if padding == "valid" else (padding, padding))
    return np.pad(X, [*sides, (0, 0)], constant_values=fill)


@every_layer
def test_gradients(make: Callable[[], Layer], shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    model = built(make(), shape=shape)
    X = rng.standard_normal((3, *shape))
    weights = rng.standard_normal(model.forward(X).shape)

    def value() -> float:
        return float(np.vdot(model.forward(X), weights))

    dX = backward(model, weights)
    assert directional_error(value, X, dX) < 1e-6
    if model.params.size:
        assert directional_error(value, model.params, model.grads.copy()) < 1e-6


@every_convolution
def test_the_sum_that_defines_it(arguments: Any, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    layer = conv(**arguments)
    model = built(layer, shape=shape)
    X = rng.standard_normal((2, *shape))
    padded = bordered(X, layer.kernel, layer.stride, layer.padding, layer.dilation)
    np.testing.assert_allclose(model.forward(X), by_loops(padded, layer, layer.W, layer.b), rtol=1e-12, atol=1e-12)
    assert model.forward(X).shape[1:] == model.output_shape
    if layer.padding == "same":
        assert model.output_shape[:2] == tuple(-(-shape[i] // layer.stride[i]) for i in range(2))


def nchw(torch: Any, X: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(X.transpose(0, 3, 1, 2)))


@every_convolution
def test_convolution_as_pytorch(arguments: Any, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    layer = conv(**arguments)
    model = built(layer, shape=shape)
    X = rng.standard_normal((5, *shape))
    Y = model.forward(X)
    dY = rng.standard_normal(Y.shape)
    x = torch.from_numpy(X).requires_grad_()
    sides = bordered(X, layer.kernel, layer.stride, layer.padding, layer.dilation)
    total = [sides.shape[i] - X.shape[i] for i in (1, 2)]
    top, left = (t // 2 for t in total)
    padded = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (left, total[1] - left, top, total[0] - top))
    W = (
        layer.W.transpose(3, 2, 0, 1)
        if layer.groups == 1
        else layer.W.transpose(2, 3, 0, 1).reshape(-1, 1, *layer.kernel)
    )
    w = torch.from_numpy(np.ascontiguousarray(W)).requires_grad_()
    b = torch.from_numpy(layer.b.copy()).requires_grad_()
    y = torch.nn.functional.conv2d(padded, w, b, layer.stride, 0, layer.dilation, layer.groups).permute(0, 2, 3, 1)
    y.backward(torch.from_numpy(dY))
    np.testing.assert_allclose(Y, y.detach(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(backward(model, dY), x.grad, rtol=1e-12, atol=1e-12)
    dW = layer.dW.transpose(3, 2, 0, 1) if layer.groups == 1 else layer.dW.transpose(2, 3, 0, 1).reshape(W.shape)
    np.testing.assert_allclose(dW, w.grad, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(layer.db, b.grad, rtol=1e-12, atol=1e-12)


@every_pool
@pytest.mark.parametrize("kind", [MaxPool2D, AvgPool2D])
@pytest.mark.parametrize("ties", [False, True])
def test_pool_as_pytorch(
    kind: Any, ties: bool, arguments: Any, shape: tuple[int, int, int], rng: np.random.Generator
) -> None:
    torch = pytest.importorskip("torch")
    layer = kind(**arguments)
    model = built(layer, shape=shape)
    X = rng.integers(2, size=(4, *shape)).astype(float) if ties else rng.standard_normal((4, *shape))
    Y = model.forward(X)
    dY = rng.standard_normal(Y.shape)
    x = torch.from_numpy(X).requires_grad_()
    sides = bordered(X, layer.size, layer.stride, layer.padding)
    total = [sides.shape[i] - X.shape[i] for i in (1, 2)]
    sides = (total[1] // 2, total[1] - total[1] // 2, total[0] // 2, total[0] - total[0] // 2)
    functional, images = torch.nn.functional, x.permute(0, 3, 1, 2)
    if kind is MaxPool2D:
        y = functional.max_pool2d(functional.pad(images, sides, value=-np.inf), layer.size, layer.stride)
    else:  # the mean of the pixels over the mean of ones: padding does not count
        counts = functional.avg_pool2d(functional.pad(torch.ones_like(images), sides), layer.size, layer.stride)
        y = functional.avg_pool2d(functional.pad(images, sides), layer.size, layer.stride) / counts
    y.permute(0, 2, 3, 1).backward(torch.from_numpy(dY))
    np.testing.assert_allclose(Y, y.permute(0, 2, 3, 1).detach(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(backward(model, dY), x.grad, rtol=1e-12, atol=1e-12)


def test_padding_of_an_average_pool_is_not_counted_as_in_pytorch(rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    X = rng.standard_normal((2, 7, 6, 3))
    Y = built(AvgPool2D(3, 2, 1), shape=X.shape[1:]).forward(X)
    y = torch.nn.functional.avg_pool2d(nchw(torch, X), 3, 2, 1, count_include_pad=False)
    np.testing.assert_allclose(Y, y.permute(0, 2, 3, 1), rtol=1e-12)


def test_the_first_of_equal_pixels_gets_the_gradient() -> None:
    """In reading order: along the row first. With (1, 0), (0, 1) in (row, column), that is the pixel (0, 1)."""
    model = built(MaxPool2D(), shape=(2, 6, 1))
    X = np.array([[0, 1, 5, 5, 7, 7], [1, 0, 5, 5, 8, 8]]).reshape(1, 2, 6, 1)
    assert model.forward(X.astype(float)).ravel().tolist() == [1, 5, 8]
    dX = backward(model, np.array([2.0, 3, 4]).reshape(1, 1, 3, 1))
    assert dX.reshape(2, 6).tolist() == [[0, 2, 3, 0, 0, 0], [0, 0, 0, 0, 4, 0]]


def test_overlapping_windows_add_what_one_pixel_gets() -> None:
    model = built(MaxPool2D(2, 1), shape=(3, 3, 1))
    X = np.zeros((1, 3, 3, 1))
    X[0, 1, 1] = 1
    assert model.forward(X).ravel().tolist() == [1, 1, 1, 1]
    dX = backward(model, np.array([1.0, 2, 4, 8]).reshape(1, 2, 2, 1))
    assert dX.ravel().tolist() == [0, 0, 0, 0, 15, 0, 0, 0, 0]


@every_layer
@pytest.mark.parametrize("shard_rows", [1, 5])
def test_a_shard_has_the_same_bits_whatever_stands_beside_it(
    make: Callable[[], Layer], shape: tuple[int, int, int], shard_rows: int, rng: np.random.Generator
) -> None:
    layer = make()
    model = built(layer, shape=shape, dtype=np.float32)
    X = rng.standard_normal((4, shard_rows, *shape)).astype(np.float32)
    dY = rng.standard_normal((4, shard_rows, *model.output_shape)).astype(np.float32)

    def computed(shards: slice) -> list[tuple[bytes, ...]]:
        Y = model.forward(X[shards], Context(training=True))
        dX = layer.backward(dY[shards])
        assert dX is not None
        found = []
        for shard in range(len(Y)):
            layer.write_gradients(shard)
            found.append((Y[shard].tobytes(), dX[shard].tobytes(), model.grads.tobytes()))
        return found

    whole = computed(slice(4))
    for start, stop in itertools.combinations(range(5), 2):
        assert computed(slice(start, stop)) == whole[start:stop]
    Y = model.forward(X[2])
    dX = layer.backward(dY[2])
    assert dX is not None
    layer.write_gradients()
    assert (Y.tobytes(), dX.tobytes(), model.grads.tobytes()) == whole[2], "without an axis of shards"


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("shape", [(28, 28, 1), (14, 14, 16), (150, 150, 8)])
def test_bits_of_shards_of_many_blocks(stride: int, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    """Shards of more images than a block has, and images larger than a block."""
    layer = Conv2D(16, stride=stride)
    model = built(layer, shape=shape, dtype=np.float32)
    rows = 2 if shape[0] > 100 else 40
    X = rng.standard_normal((2, rows, *shape)).astype(np.float32)
    dY = rng.standard_normal((2, rows, *model.output_shape)).astype(np.float32)
    Y, dX = model.forward(X).copy(), layer.backward(dY)
    assert dX is not None
    layer.write_gradients(1)
    whole = Y[1].tobytes(), dX[1].tobytes(), model.grads.tobytes()
    Y, dX = model.forward(X[1]), layer.backward(dY[1])
    assert dX is not None
    layer.write_gradients()
    assert (Y.tobytes(), dX.tobytes(), model.grads.tobytes()) == whole
    exact = built(Conv2D(16, stride=stride), shape=shape)
    exact.params[...] = model.params
    np.testing.assert_allclose(Y, exact.forward(X[1].astype(float)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(dX, backward(exact, dY[1].astype(float)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.grads, exact.grads, rtol=1e-3, atol=1e-2)


@every_layer
@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 0, 7), (0, 1, 2, 7)])
def test_pieces_sum_to_the_whole(
    make: Callable[[], Layer], shape: tuple[int, int, int], cuts: tuple[int, ...], rng: np.random.Generator
) -> None:
    model = built(make(), shape=shape)
    X = rng.standard_normal((7, *shape))
    Y = model.forward(X).copy()
    dY = rng.standard_normal(Y.shape)
    whole_dX, whole_grads = backward(model, dY), model.grads.copy()
    Ys, dXs, grads = [], [], np.zeros_like(whole_grads)
    for start, stop in itertools.pairwise(cuts):
        Ys.append(model.forward(X[start:stop], Context(training=True)).copy())
        dXs.append(backward(model, dY[start:stop]))
        grads += model.grads
    np.testing.assert_allclose(np.concatenate(Ys), Y, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(np.concatenate(dXs), whole_dX, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(grads, whole_grads, rtol=1e-12, atol=1e-12)


def test_no_rows_in_shards() -> None:
    model = built(Conv2D(3), MaxPool2D(), AvgPool2D(), GlobalAvgPool(), shape=(8, 8, 2))
    for counts in ((0,), (2, 0), (0, 3)):
        assert model.forward(np.zeros((*counts, 8, 8, 2))).shape == (*counts, 3)
        model.backward(np.zeros((*counts, 3)))
        model.write_gradients()
        assert not model.grads.any()


def test_other_memory_may_be_lent(rng: np.random.Generator) -> None:
    layer = Conv2D(4)
    model = built(layer, shape=(5, 5, 2))
    X, dY = rng.standard_normal((2, 3, 5, 5, 2)), rng.standard_normal((2, 3, 5, 5, 4))
    Y, dX = model.forward(X).copy(), backward(model, dY)
    lent_Y, lent_dX = np.empty_like(Y), np.empty_like(dX)
    layer.outputs.lend(lent_Y)
    layer.input_gradients.lend(lent_dX)
    assert model.forward(X) is lent_Y
    assert layer.backward(dY) is lent_dX
    np.testing.assert_array_equal(lent_Y, Y)
    np.testing.assert_array_equal(lent_dX, dX)


@frugal_numpy
@pytest.mark.parametrize("shards", [(), (4,)])
def test_a_warm_step_allocates_little(shards: tuple[int, ...], rng: np.random.Generator) -> None:
    layers = (
        Conv2D(8),
        ReLU(),
        MaxPool2D(),
        Conv2D(8, stride=2),
        Conv2D(8, groups=8),
        AvgPool2D(3, 2, 1),
        Conv2D(4, 1),
    )
    model = built(*layers, GlobalAvgPool(), Dense(3), shape=(28, 28, 1), dtype=np.float32)
    X = rng.standard_normal((*shards, 16, 28, 28, 1)).astype(np.float32)
    dY = rng.standard_normal((*shards, 16, 3)).astype(np.float32)

    def step() -> None:
        model.forward(X, Context(training=True))
        model.backward(dY)
        model.write_gradients(0 if shards else ...)

    for _ in range(3):
        step()
    assert allocated_by(step) < 16 * 1024


def test_first_weights() -> None:
    for init, spread in (("he", np.sqrt(2 / (9 * 40))), ("glorot", np.sqrt(2 / (9 * 40 + 9 * 60)))):
        layer = Conv2D(60, init=init)
        model = Sequential(layer, dtype=np.float64)
        model.build((4, 4, 40))
        model.initialize(np.random.default_rng(0))
        assert layer.W.std() == pytest.approx(spread, rel=0.02)
        assert not layer.b.any()
    layer = Conv2D(800, groups=400)
    model = Sequential(layer, dtype=np.float64)
    model.build((4, 4, 400))
    model.initialize(np.random.default_rng(0))
    assert layer.W.std() == pytest.approx(np.sqrt(2 / 9), rel=0.03)
