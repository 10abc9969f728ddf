import copy
import itertools
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gradcheck import directional_error

from ddp_numpy import Dense, InputError, ReLU, Scale, Sequential, SoftmaxCrossEntropy
from ddp_numpy.nn import Context, Layer

ROWS, FEATURES, CLASSES = 7, 5, 4
TOLERANCE = 1e-7


def build(*layers: Layer, features: int = FEATURES) -> Sequential:
    model = Sequential(*layers, dtype=np.float64)
    model.build((features,))
    rng = np.random.default_rng(4)
    model.initialize(rng)
    model.params += 0.1 * rng.standard_normal(model.params.shape)  # biases too should not be at zero
    model.attach_grads(np.full(model.params.size, np.nan))
    return model


def test_gradient_of_the_loss(rng: np.random.Generator) -> None:
    logits, y = rng.standard_normal((ROWS, CLASSES)), rng.integers(CLASSES, size=ROWS)
    loss = SoftmaxCrossEntropy(CLASSES, np.float64)

    def value() -> float:
        return loss.forward(logits, y)[0].sum() / (3 * ROWS)  # as if these rows were a third of the global batch

    value()
    assert directional_error(value, logits, loss.backward(3 * ROWS).copy()) < TOLERANCE


def whole_network(rng: np.random.Generator) -> tuple[Callable[[], float], Sequential]:
    model = build(Dense(6), ReLU(), Dense(5), ReLU(), Dense(CLASSES))
    X, y = rng.standard_normal((ROWS, FEATURES)), rng.integers(CLASSES, size=ROWS)
    loss = SoftmaxCrossEntropy(CLASSES, np.float64)

    def value() -> float:
        return loss.forward(model.forward(X), y)[0].sum() / ROWS

    value()
    model.backward(loss.backward(ROWS))
    model.write_gradients()
    return value, model


def test_gradient_of_the_network(rng: np.random.Generator) -> None:
    value, model = whole_network(rng)
    assert directional_error(value, model.params, model.grads.copy()) < TOLERANCE


@pytest.mark.parametrize("layer", [0, 2, 4])
def test_the_check_catches_a_gradient_wrong_by_a_twentieth_of_a_percent(layer: int, rng: np.random.Generator) -> None:
    value, model = whole_network(rng)
    model.layers[layer].dW *= 1.0005  # type: ignore[attr-defined]
    assert directional_error(value, model.params, model.grads.copy()) > 10 * TOLERANCE


def test_layers_share_the_models_memory() -> None:
    model = build(Dense(3), ReLU(), Dense(2))
    model.params[...], model.grads[...] = 5, 6
    for layer in (model.layers[0], model.layers[2]):
        assert isinstance(layer, Dense)
        assert (layer.W == 5).all()
        assert (layer.b == 5).all()
        assert (layer.dW == 6).all()
        assert (layer.db == 6).all()
    assert model.params.size == FEATURES * 3 + 3 + 3 * 2 + 2


def test_he_initialization() -> None:
    model = Sequential(Dense(400), dtype=np.float64)
    model.build((300,))
    model.initialize(np.random.default_rng(0))
    (layer,) = model.layers
    assert isinstance(layer, Dense)
    assert layer.W.std() == pytest.approx(np.sqrt(2 / 300), rel=0.01)
    assert abs(layer.W.mean()) < 1e-3
    assert not layer.b.any()


def test_glorot_initialization() -> None:
    model = Sequential(Dense(400, init="glorot"), dtype=np.float64)
    model.build((300,))
    model.initialize(np.random.default_rng(0))
    bound = np.sqrt(6 / 700)
    W = model.params[: 300 * 400]
    assert bound * 0.999 < np.abs(W).max() <= bound
    assert W.std() == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert model.description()["layers"] == [{"type": "Dense", "outputs": 400, "init": "glorot"}]


def test_an_unknown_initialization_is_one_line() -> None:
    with pytest.raises(InputError, match="Dense: init is 'lecun', and must be 'he' or 'glorot'"):
        Dense(3, init="lecun")


def test_both_precisions_start_at_the_same_weights() -> None:
    models = [Sequential(Dense(4), ReLU(), Dense(2), dtype=dtype) for dtype in (np.float32, np.float64)]
    for model in models:
        model.build((3,))
        model.initialize(np.random.default_rng(0))
    np.testing.assert_array_equal(models[0].params, models[1].params.astype(np.float32))


def test_the_loss_of_huge_logits_is_finite() -> None:
    loss = SoftmaxCrossEntropy(2, np.float32)
    losses, right = loss.forward(np.array([[1e30, -1e30], [1e30, -1e30]], np.float32), np.array([0, 0]))
    np.testing.assert_array_equal(losses, [0, 0])
    assert right.all()
    assert np.isfinite(loss.backward(2)).all()


def test_the_loss_and_what_is_right(rng: np.random.Generator) -> None:
    logits, y = rng.standard_normal((50, CLASSES)), rng.integers(CLASSES, size=50)
    losses, right = SoftmaxCrossEntropy(CLASSES, np.float64).forward(logits, y)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(losses, -np.log(probabilities[range(50), y]), rtol=1e-12)
    np.testing.assert_array_equal(right, probabilities.argmax(axis=1) == y)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shard_rows", [1, 3, 16])
def test_a_shard_has_the_same_bits_whatever_stands_beside_it(
    shard_rows: int, dtype: type, rng: np.random.Generator
) -> None:
    """All that a step computes before it adds up: also exp and log, which take several numbers at a time."""
    model = Sequential(Dense(33), ReLU(), Dense(CLASSES), dtype=dtype)
    model.build((50,))
    model.initialize(rng)
    loss = SoftmaxCrossEntropy(CLASSES, dtype)
    X = rng.standard_normal((9, shard_rows, 50)).astype(dtype)
    y = rng.integers(CLASSES, size=(9, shard_rows))

    def computed(shards: slice) -> list[tuple[bytes, ...]]:
        count = len(X[shards])
        model.attach_grads(np.empty_like(model.params))
        losses, _ = loss.forward(model.forward(X[shards], Context(training=True)), y[shards].reshape(-1))
        model.backward(loss.backward(7))
        found = []
        for shard, shard_losses in enumerate(losses.reshape(count, shard_rows)):
            model.write_gradients(shard)
            found.append((shard_losses.tobytes(), model.grads.tobytes()))
        return found

    whole = computed(slice(9))
    for start, stop in itertools.combinations(range(10), 2):
        assert computed(slice(start, stop)) == whole[start:stop]


def test_predict_takes_raw_features_in_any_number_of_rows(rng: np.random.Generator) -> None:
    model = build(Dense(CLASSES))
    model.scale = Scale(255.0)
    X = rng.integers(256, size=(2500, FEATURES)).astype(np.uint8)
    labels = model.predict(X)
    np.testing.assert_array_equal(labels, model.forward(X / 255.0).argmax(axis=1))
    assert len(model.predict(X[:0])) == 0


def test_a_layer_has_one_place() -> None:
    layer = Dense(3)
    with pytest.raises(InputError, match="layers 1 and 3 are the same Dense object"):
        Sequential(layer, ReLU(), layer)


def test_a_layer_has_one_model() -> None:
    layers = Dense(3), ReLU()
    first = build(*layers)
    second = Sequential(*reversed(layers))
    with pytest.raises(InputError, match=r"layer 1 \(ReLU\) is part of another model"):
        second.build((FEATURES,))
    first.build((FEATURES,))  # again
    assert list(first.parameter_slices()) == ["W of layer 1 (Dense)", "b of layer 1 (Dense)"]
    copies = [copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    for model in copies:
        assert (model.predict(np.ones((2, FEATURES))) == first.predict(np.ones((2, FEATURES)))).all()
        before = first.predict_proba(np.ones((2, FEATURES)))
        model.params[...] = 0  # of the copy alone, and of its layers
        np.testing.assert_allclose(model.predict_proba(np.ones((2, FEATURES))), 1 / 3)
        np.testing.assert_array_equal(first.predict_proba(np.ones((2, FEATURES))), before)
        model.build((FEATURES,))
    del first
    second.build((FEATURES,))


@pytest.mark.parametrize("outputs", [0, -1, 2.0, "2", True, None, [2], 2**31])
def test_the_size_of_a_layer_is_a_whole_number(outputs: Any) -> None:
    with pytest.raises(InputError, match=r"Dense: outputs is .*, and must be a whole number from 1 to 2,147,483,647"):
        Dense(outputs)
    assert Dense(np.int64(3)).config() == {"outputs": 3}  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (0,), (-1,), (2**31,), (2**20, 2**20), (1,) * 9, (3, 4)])
def test_rows_that_no_model_takes(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        Sequential(Dense(2)).build(shape)


def test_a_model_that_does_not_fit_into_memory_is_refused_with_its_size() -> None:
    with pytest.raises(InputError, match=r"a model of 1,000,001,000,000 parameters needs 4,000\.0 GB of memory"):
        Sequential(Dense(1_000_000)).build((1_000_000,))


def test_predict_takes_a_table(rng: np.random.Generator) -> None:
    model = build(Dense(CLASSES))
    X = rng.integers(256, size=(30, FEATURES))
    table = pd.DataFrame(X, columns=list("abcde"))
    mixed = table.astype({"a": "float32", "b": "Int64", "c": "uint8"})
    for same in (table, mixed, table.astype(object), X.tolist(), X.astype(np.float32), X.astype(">i2")):
        np.testing.assert_array_equal(model.predict(same), model.predict(X))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.zeros((3, 4)), r"features have the shape \(3, 4\), and must have \(rows, 5\)"),
        (np.zeros(5), r"features have the shape \(5,\), and must have \(rows, 5\)"),
        (np.float64(3), r"features have the shape \(\)"),
        (np.full((3, 5), "x"), "features must be numbers, not <U1"),
        (np.zeros((3, 5), complex), "features must be numbers, not complex128"),
        (pd.DataFrame([[1, 2, 3, 4, "x"]]), "features must be numbers, with none missing"),
        (pd.DataFrame([[1, 2, None, 4, 5]]), "row 1, column 3: a value is missing"),
        (np.where(np.arange(10_000).reshape(2000, 5) == 7502, np.nan, 0), "row 1501, column 3: a value is missing"),
        (np.full((1, 5), np.inf), "row 1, column 1: inf is not a finite float32"),
        (np.full((1, 5), 1e39), r"row 1, column 1: 1e\+39 is not a finite float32"),
    ],
)
def test_what_can_not_be_predicted(X: Any, message: str) -> None:
    model = Sequential(Dense(2))
    model.build((5,))
    for predict in (model.predict, model.predict_proba):
        with pytest.raises(InputError, match=message):
            predict(X)


def test_results_that_are_not_finite_are_no_prediction() -> None:
    model = Sequential(Dense(2))
    model.build((5,))
    model.params[...] = 3e38
    with pytest.raises(InputError, match="results are too large for float32"):
        model.predict(np.ones((3, 5)))


def test_a_model_that_is_not_built_does_not_predict() -> None:
    with pytest.raises(InputError, match="not built yet"):
        Sequential(Dense(2)).predict(np.zeros((1, 2)))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities(dtype: type, rng: np.random.Generator) -> None:
    model = Sequential(Dense(CLASSES), dtype=dtype)
    model.build((FEATURES,))
    model.initialize(rng)
    X = rng.standard_normal((2500, FEATURES))
    P = model.predict_proba(X)
    assert P.dtype == dtype
    assert P.shape == (2500, CLASSES)
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(P.argmax(axis=1), model.predict(X))
    logits = model.forward(X.astype(dtype)).astype(np.float64)
    np.testing.assert_allclose(P, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rtol=1e-4)
    model.params *= 1e6  # logits of which the exponentials overflow
    assert np.isfinite(model.predict_proba(X)).all()
    model.params[...] = 0
    model.params[-2:] = np.finfo(dtype).min, np.finfo(dtype).max  # further apart than any number is large
    assert model.predict_proba(X).tolist() == [[0, 0, 0, 1]] * len(X)
    assert model.predict_proba(X[:0]).shape == (0, CLASSES)


def test_a_model_reads_as_its_layers() -> None:
    assert str(build(Dense(3), ReLU(), Dense(2))) == "5 -> 3 ReLU -> 2"


def test_the_digest_sees_one_bit() -> None:
    model = build(Dense(3))
    before = model.digest()
    model.params.view(np.uint64)[7] ^= 1
    assert model.digest() != before


def test_a_divisor_that_is_nothing_in_the_models_dtype_is_one_line() -> None:
    model = Sequential(Dense(3))
    model.build((4,))
    model.scale = Scale(1e-200)
    with pytest.raises(InputError, match=r"row 1, column 1: 1\.0, divided by 1e-200, is not a finite float32; correct"):
        model.predict(np.ones((2, 4)))
