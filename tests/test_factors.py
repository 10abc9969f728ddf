"""Gradients cut along parameters, in one process: trials, what is not finite, layers that write elsewhere."""

from collections.abc import Callable
from itertools import cycle
from types import SimpleNamespace

import numpy as np
import pytest
from tables import classified_rows

from ddp_numpy import (
    SGD,
    Dataset,
    Dense,
    DivergedError,
    FactorExchange,
    FloatExchange,
    InputError,
    Layer,
    ReLU,
    Sequential,
    SingleProcess,
    SoftmaxCrossEntropy,
    Trainer,
)
from ddp_numpy.base.scale import Scale
from ddp_numpy.exchange import choose_exchange
from ddp_numpy.exchange.gathering import much_quicker
from ddp_numpy.exchange.trials import Trials


class TwoHosts(SingleProcess):
    """A job that believes to be larger."""

    def __init__(self, ranks: int, hosts: int) -> None:
        super().__init__()
        self.size, self._hosts = ranks, [f"host{number}" for number in range(hosts)]

    def hosts(self) -> list[str]:
        return self._hosts


class Sensitive(Dense):
    """A product whose last bits depend on how many rows it has, or how many units."""

    def forward(self, X, context=None):  # type: ignore[no-untyped-def, override]
        Y = super().forward(X)
        Y *= 1 + 1e-6 * (X.shape[-2] % 5)
        return Y

    def write_units(self, units, X, dY, gradient):  # type: ignore[no-untyped-def, override]
        super().write_units(units, X, dY, gradient)
        gradient *= 1 + 1e-6 * ((units.stop - units.start) % 5)


class Elsewhere(Layer):
    """A layer that returns new arrays: what is lent to it stays unused."""

    def forward(self, X, context=None):  # type: ignore[no-untyped-def, override]
        return np.tanh(X) * 2

    def backward(self, dY, input_gradient=True):  # type: ignore[no-untyped-def, override]
        return dY * 0.5


def dataset(rows: int, scale: float = 1.0) -> Dataset:
    X, y = classified_rows(rows, features=30)
    return Dataset((X * np.float32(scale)).astype(np.float32), y, classes=4, scale=Scale(255.0))


def trained(exchange, *layers: Layer, batch_size: int = 64) -> np.ndarray:  # type: ignore[no-untyped-def]
    model = Sequential(*layers, dtype=np.float32)
    data = dataset(200)
    Trainer(model, SGD(0.1), SingleProcess(), batch_size=batch_size, exchange=exchange).train(data, data, 2)
    return model.params


def test_what_a_trial_allows_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = lambda: (Dense(300), ReLU(), Dense(4))  # noqa: E731
    tried = trained(FactorExchange(), *layers())
    monkeypatch.setattr(Trials, "in_one", lambda *_: False)
    monkeypatch.setattr(Trials, "as_one_block", lambda *_: False)
    np.testing.assert_array_equal(trained(FactorExchange(), *layers()), tried)


def test_a_trial_finds_that_other_shapes_have_other_bits() -> None:
    model = Sequential(Sensitive(300), ReLU(), Dense(4))
    model.build((30,))
    params = model.params
    trials = Trials(model, SoftmaxCrossEntropy(4, model.dtype), by_shards=False)
    assert not trials.in_one(64, 16)
    assert not trials.as_one_block(model.layers[0], [slice(0, 10), slice(10, 21)], 64)
    assert model.params is params, "the trial used others"
    assert not params.any()


def test_what_is_left_over_behind_whole_tiles_is_not_tried() -> None:
    """Few sums would show the difference there, and a trial might miss it."""
    model = Sequential(Dense(8), Dense(4))
    model.build((30,))
    trials = Trials(model, SoftmaxCrossEntropy(4, model.dtype), by_shards=False)
    assert not any(trials.in_one(*rows) for rows in ((50, 16), (0, 16), (60, 20)))


def test_a_network_whose_bits_depend_on_shapes_is_trained_in_micro_shards() -> None:
    seen = set()

    class Noting(Sensitive):
        def forward(self, X, context=None):  # type: ignore[no-untyped-def, override]
            seen.add(X.shape[:-1])
            return super().forward(X)

    model, data = Sequential(Noting(8), Dense(4)), dataset(64)
    trainer = Trainer(model, SGD(0.1), SingleProcess(), exchange=FactorExchange())
    trainer.prepare(data)
    trainer.step = 0
    trainer.train_epoch(data)  # the trial comes before the first step
    seen.clear()
    trainer.epoch_sums[...] = 0
    trainer.step = 0
    trainer.train_epoch(data)
    assert seen == {(4, 16)}


def test_layers_that_write_elsewhere_train_alike() -> None:
    layers = lambda: (Dense(8), Elsewhere(), Dense(6), Elsewhere(), Dense(4))  # noqa: E731
    expected = trained(FloatExchange(), *layers())
    for exchange in (FactorExchange(), FactorExchange(reproducible=False)):
        np.testing.assert_allclose(trained(exchange, *layers()), expected, atol=1e-5)


def test_what_a_step_was_lent_is_given_back() -> None:
    """Between steps the memory may be another rank's, and somebody may predict meanwhile."""
    model, data = Sequential(Dense(8), ReLU(), Dense(4)), dataset(64)
    trainer = Trainer(model, SGD(0.1), SingleProcess(), exchange=FactorExchange())
    trainer.prepare(data)
    trainer.train_epoch(data)
    factors = [factor for layer in model.layers if isinstance(layer, Dense) for factor in layer.factors()]
    for layer in model.layers:
        for memory in (layer.outputs, layer.input_gradients):
            assert memory is not None
            assert not any(np.shares_memory(memory.rows(64), factor) for factor in factors)


@pytest.mark.parametrize("between", ["factors", "slices"])
@pytest.mark.parametrize("reproducible", [True, False])
def test_a_gradient_that_is_not_finite_is_named_and_no_update_made(between: str, reproducible: bool) -> None:
    class Constant(Dense):
        """Weights of 0 and of 1e10: the loss is finite, and what goes back to large features is not."""

        def initialize(self, rng: np.random.Generator) -> None:
            self.W[...] = 0 if self.number == 1 else 1e10 * np.arange(self.W.size).reshape(self.W.shape)

    data = dataset(64, scale=1e32)
    data = Dataset(data.features, data.labels, 4, Scale(1.0))
    model = Sequential(Constant(3), Constant(4))
    exchange = FactorExchange(reproducible=reproducible, between=between)  # type: ignore[arg-type]
    trainer = Trainer(model, SGD(0.1), SingleProcess(), exchange=exchange)
    with pytest.raises(DivergedError, match=r"the gradient of layer 1 \(Constant\) is not a finite number"):
        trainer.train(data, data, 1)
    assert not model.layers[0].W.any()  # type: ignore[attr-defined]


def test_what_is_large_but_finite_is_no_error() -> None:
    data = dataset(64, scale=1e30)
    data = Dataset(data.features, data.labels, 4, Scale(1.0))
    for between in ("factors", "slices"):
        exchange = FactorExchange(reproducible=False, between=between)  # type: ignore[arg-type]
        trainer = Trainer(Sequential(Dense(4)), SGD(1e-38), SingleProcess(), exchange=exchange)
        trainer.prepare(data)
        trainer.model.params[...] = 0
        trainer.train_epoch(data)


@pytest.mark.parametrize(
    ("ranks", "hosts", "batch", "reproducible", "kind"),
    [
        (1, 1, 64, False, "FloatExchange"),
        (4, 1, 64, False, "FloatExchange"),
        (4, 2, 64, False, "FactorExchange"),
        (4, 2, 512, False, "FactorExchange"),
        (4, 2, 513, False, "FloatExchange"),
        (1, 1, 64, True, "FactorExchange"),
        (4, 2, 5000, True, "FactorExchange"),
    ],
)
def test_auto_is_what_its_rule_says(ranks: int, hosts: int, batch: int, reproducible: bool, kind: str) -> None:
    comm = TwoHosts(ranks, hosts)
    assert type(choose_exchange("auto", comm, batch, reproducible=reproducible)).__name__ == kind


@pytest.mark.parametrize(
    ("one", "other", "is_quicker"),
    [
        ([1.0], [2.0], True),
        ([2.0], [1.0], False),
        ([0.95], [1.0], False),  # not by a tenth
        ([1.0, 1.0, 1.0], [2.0, 0.1, 2.0], True),  # some tries of the slower way are quick by chance
        ([1.0, 9.0, 1.0], [2.0, 2.0, 2.0], True),  # and some of the quicker way are slow
    ],
)
def test_a_trial_finds_the_quicker_exchange(
    one: list[float], other: list[float], is_quicker: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr("ddp_numpy.exchange.gathering.time", SimpleNamespace(perf_counter=lambda: now))

    def exchange(milliseconds: list[float]) -> Callable[[], Callable[[], None]]:
        tries = cycle(milliseconds)

        def run() -> None:
            nonlocal now
            now += next(tries) / 1000

        return lambda: run

    assert much_quicker(SingleProcess(), exchange(one), exchange(other)) is is_quicker


def test_gradients_are_gradients() -> None:
    names = [
        type(choose_exchange("gradients", SingleProcess(), 64, reproducible=exact)).__name__ for exact in (False, True)
    ]
    assert names == ["FloatExchange", "GridExchange"]


def test_too_many_rows_for_memory_are_one_line() -> None:
    data = dataset(64)
    exchange = FactorExchange(between="factors")
    trainer = Trainer(Sequential(Dense(4)), SGD(0.1), SingleProcess(), batch_size=10**12, exchange=exchange)
    with pytest.raises(InputError, match=r"the factors of 1,000,000,000,000 rows needs [0-9,.]+ GB of memory"):
        trainer.train(data, data, 1)
