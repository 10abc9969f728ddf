"""What holds for every layer: gradients, rows that do not mix, shards, files, and no memory that a step allocates."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradcheck import directional_error
from layers import LAYERS, Entry, built, names, training
from memory import frugal_numpy
from tables import classified_rows

from benchmarks.step import allocated_by
from ddp_numpy import SGD, Dataset, FactorExchange, Interrupted, SingleProcess, Trainer, nn
from ddp_numpy.base.scale import Scale
from ddp_numpy.nn import EVALUATION, Context
from ddp_numpy.runs.model_file import load_model, save_model

ROWS = 7
TOLERANCE = 1e-6

every_layer = pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS.keys())
layers_of_rows = pytest.mark.parametrize(  # of which no row knows of another
    "entry",
    [entry for entry in LAYERS.values() if not built(entry).joins_rows],
    ids=[name for name, entry in LAYERS.items() if not built(entry).joins_rows],
)


def test_the_table_has_every_layer() -> None:
    assert {name for entry in LAYERS.values() for name in names(entry.make())} == nn.LAYERS.keys()


@every_layer
@pytest.mark.parametrize("context", [training(ROWS), EVALUATION], ids=["training", "evaluation"])
def test_gradients(entry: Entry, context: Context, rng: np.random.Generator) -> None:
    model = built(entry)
    (layer,) = model.layers
    X = rng.standard_normal((ROWS, *entry.shape))
    weights = rng.standard_normal(model.forward(X, context).shape)  # any scalar function of Y will do

    def value() -> float:
        return float(np.vdot(model.forward(X, context), weights))

    value()
    dX = layer.backward(weights)
    assert dX is not None
    dX = dX.copy()
    model.write_gradients()
    assert directional_error(value, X, dX) < TOLERANCE
    if model.params.size:
        assert directional_error(value, model.params, model.grads.copy()) < TOLERANCE


@every_layer
def test_a_gradient_at_the_input_that_is_not_asked_for_changes_no_other(entry: Entry, rng: np.random.Generator) -> None:
    model = built(entry)
    X = rng.standard_normal((ROWS, *entry.shape))
    dY = rng.standard_normal(model.forward(X, training(ROWS)).shape)
    model.layers[0].backward(dY)
    model.write_gradients()
    expected = model.grads.copy()
    model.forward(X, training(ROWS))
    model.backward(dY)
    model.write_gradients()
    np.testing.assert_array_equal(model.grads, expected)


@every_layer
def test_rows_do_not_mix_in_evaluation(entry: Entry, rng: np.random.Generator) -> None:
    model = built(entry)
    X = rng.standard_normal((ROWS, *entry.shape))
    whole = model.forward(X).copy()
    single = np.concatenate([model.forward(X[i : i + 1]).copy() for i in range(ROWS)])
    np.testing.assert_allclose(single, whole, rtol=1e-13, atol=1e-14)
    assert model.forward(X[:0]).shape == (0, *model.output_shape)


@layers_of_rows
@pytest.mark.parametrize("cuts", [(0, 3, 7), (0, 0, 7), (0, 1, 2, 7)])
def test_shares_sum_to_the_whole(entry: Entry, cuts: tuple[int, ...], rng: np.random.Generator) -> None:
    model = built(entry)
    (layer,) = model.layers
    X = rng.standard_normal((ROWS, *entry.shape))
    Y = model.forward(X, training(ROWS)).copy()
    dY = rng.standard_normal(Y.shape)
    whole_dX = layer.backward(dY)
    model.write_gradients()
    assert whole_dX is not None
    whole_dX, whole_grads = whole_dX.copy(), model.grads.copy()
    Ys, dXs, grads = [], [], np.zeros_like(whole_grads)
    for start, stop in itertools.pairwise(cuts):
        Ys.append(model.forward(X[start:stop], training(stop - start, start, ROWS)).copy())
        dX = layer.backward(dY[start:stop])
        model.write_gradients()
        assert dX is not None
        dXs.append(dX.copy())
        grads += model.grads
    np.testing.assert_allclose(np.concatenate(Ys), Y, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(np.concatenate(dXs), whole_dX, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(grads, whole_grads, rtol=1e-12, atol=1e-13)


@layers_of_rows
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_shard_has_the_same_bits_whatever_stands_beside_it(
    entry: Entry, dtype: type, rng: np.random.Generator
) -> None:
    model = built(entry, dtype)
    (layer,) = model.layers
    X = rng.standard_normal((3, 16, *entry.shape)).astype(dtype)

    def results(first: int, stop: int) -> list[list[bytes]]:
        Y = model.forward(X[first:stop], training(16 * (stop - first), 16 * first, 48)).copy()
        dX = layer.backward(np.cos(Y))
        assert dX is not None
        dX, found = dX.copy(), []
        for shard in range(stop - first):
            model.write_gradients(shard)
            found.append([Y[shard].tobytes(), dX[shard].tobytes(), model.grads.tobytes()])
        return found

    together = results(0, 3)
    for shard in range(3):
        assert results(shard, shard + 1) == [together[shard]]


@every_layer
def test_rows_that_fill_a_shard_up_change_nothing(entry: Entry, rng: np.random.Generator) -> None:
    model = built(entry)
    (layer,) = model.layers
    X = rng.standard_normal((2, 4, *entry.shape))
    context = training(6)
    context.sum_rows = lambda partial: partial.sum(axis=0)

    def results() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        model.buffers[...] = 1
        Y = model.forward(X, context).copy()
        dY = np.cos(np.arange(Y.size)).reshape(Y.shape)
        dY.reshape(8, -1)[6:] = 0
        dX = layer.backward(dY)
        model.write_gradients(1)
        assert dX is not None
        return Y.reshape(8, -1)[:6], dX.copy().reshape(8, -1), model.grads.copy(), model.buffers.copy()

    first = results()
    assert not first[1][6:].any()
    X.reshape(8, *entry.shape)[6:] = rng.standard_normal((2, *entry.shape))
    for before, now in zip(first, results(), strict=True):
        np.testing.assert_array_equal(before, now)


@every_layer
def test_a_file_holds_the_layer(entry: Entry, tmp_path: Path, rng: np.random.Generator) -> None:
    model = nn.Sequential(entry.make(), nn.Flatten(), nn.Dense(2), dtype=np.float64)
    model.build(entry.shape)
    model.initialize(rng)
    X = rng.standard_normal((ROWS, *entry.shape))
    model.forward(X, training(ROWS))  # running statistics are no longer the first ones
    save_model(model, tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz")
    assert loaded.description() == model.description()
    assert str(loaded) == str(model)
    np.testing.assert_array_equal(loaded.forward(X), model.forward(X))


@every_layer
@pytest.mark.parametrize("steps", [1, 5])
def test_a_run_goes_on_from_any_step(entry: Entry, steps: int) -> None:
    X, y = classified_rows(60, features=math.prod(entry.shape))
    data = Dataset(X.reshape(-1, *entry.shape), y, classes=4, scale=Scale(255.0))

    def trainer() -> Trainer:
        model = nn.Sequential(entry.make(), nn.Flatten(), nn.Dense(4), dtype=np.float64)
        return Trainer(model, SGD(0.1, 0.9), SingleProcess(), batch_size=16, exchange=FactorExchange(micro_rows=4))

    whole, first, second = trainer(), trainer(), trainer()
    whole.train(data, data, 3)
    made = itertools.count(1)
    first.stop = steps == 1

    def stop_next(_: int) -> None:
        first.stop = next(made) == steps - 1

    with pytest.raises(Interrupted):
        list(first.fit(data, data, 3, stop_next))
    assert first.steps_made == steps
    second.prepare(data)
    second.restore(first.epoch, first.step, {name: array.copy() for name, array in first.state().items()})
    second.train(data, data, 3)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(second.state()[name], array, err_msg=name)


@frugal_numpy
@every_layer
def test_a_warm_step_allocates_little(entry: Entry, rng: np.random.Generator) -> None:
    model = built(entry)
    X = rng.standard_normal((5000, *entry.shape))
    dY = rng.standard_normal(model.forward(X).shape)

    def step() -> None:
        model.forward(X, training(5000))
        model.layers[0].backward(dY)
        model.write_gradients()

    step()
    # NumPy takes up to 66 KB for a moment, however many rows there are, where it repeats a vector for each row.
    assert allocated_by(step) < 70_000, "an array of all rows has 200,000 bytes or more"


def rows_last(x: Any) -> np.ndarray:
    """An array of PyTorch's; of images the channels become the last axis."""
    array: np.ndarray = x.detach().numpy()
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


@pytest.mark.parametrize(
    "name", [name for name, entry in LAYERS.items() if entry.torch is not None], ids=lambda name: name
)
def test_pytorchs_layer_does_the_same(name: str, rng: np.random.Generator) -> None:
    torch = pytest.importorskip("torch")
    entry = LAYERS[name]
    assert entry.torch is not None
    model = built(entry)
    (layer,) = model.layers
    theirs = entry.torch(torch, layer).double()
    arrays = {"weight": "gamma", "bias": "beta"}
    for their_name, ours in arrays.items():
        getattr(theirs, their_name).data = torch.tensor(getattr(layer, ours))
    for _ in range(3):
        X = rng.standard_normal((ROWS, *entry.shape))
        channels_first = np.moveaxis(X, -1, 1) if X.ndim == 4 else X
        their_X = torch.tensor(channels_first, requires_grad=True)
        Y, their_Y = model.forward(X, training(ROWS)), theirs(their_X)
        dY = rng.standard_normal(Y.shape)
        dX = layer.backward(dY)
        model.write_gradients()
        theirs.zero_grad()
        their_Y.backward(torch.tensor(np.moveaxis(dY, -1, 1) if X.ndim == 4 else dY))

        np.testing.assert_allclose(Y, rows_last(their_Y), rtol=0, atol=1e-12)
        assert dX is not None
        np.testing.assert_allclose(dX, rows_last(their_X.grad), rtol=0, atol=1e-12)
        for their_name, ours in arrays.items():
            np.testing.assert_allclose(
                getattr(layer, f"d{ours}"), getattr(theirs, their_name).grad.numpy(), rtol=0, atol=1e-12
            )
        if "BatchNorm" in name:
            np.testing.assert_allclose(layer.running_mean, theirs.running_mean, rtol=0, atol=1e-12)
            np.testing.assert_allclose(layer.running_variance, theirs.running_var, rtol=0, atol=1e-12)
