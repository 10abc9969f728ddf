"""Optimizers: their formulas, groups of parameters, runs of the vectors, and state of any kind."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from adaptive import Adaptive
from optimizers import OPTIMIZERS
from tables import classified_rows

from ddp_numpy import SGD, Dataset, Dense, InputError, Interrupted, Optimizer, ReLU, Sequential, SingleProcess, Trainer
from ddp_numpy.base.scale import Scale
from ddp_numpy.optim import Group
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot

PARAMETERS = {"W": slice(0, 6), "b": slice(6, 8), "V": slice(8, 12)}
P = 12


def updated(optimizer: Optimizer, runs: list[slice] | None = None, steps: int = 3) -> np.ndarray:
    """Parameters (P,) after some steps of these runs of them."""
    rng = np.random.default_rng(1)
    params = rng.standard_normal(P)
    optimizer.prepare(params, PARAMETERS)
    for _ in range(steps):
        grads = rng.standard_normal(P)
        optimizer.step(params, grads, runs)
    assert optimizer.steps == steps
    return params


def is_bias(name: str) -> bool:
    return name == "b"


@pytest.mark.parametrize("groups", [(), (Group(is_bias, {"lr": 0.3}),), (Group(is_bias, {"momentum": 0.0}),)])
@pytest.mark.parametrize("cuts", [(0, 12), (0, 7, 12), (0, 3, 3, 6, 8, 12)])
def test_run_by_run_is_all_at_once(groups: tuple[Group, ...], cuts: tuple[int, ...]) -> None:
    runs = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    whole = updated(SGD(0.1, 0.9, groups))
    np.testing.assert_array_equal(updated(SGD(0.1, 0.9, groups), runs), whole)


def test_a_groups_parameters_have_its_hyperparameters_and_no_others_do() -> None:
    plain, other = updated(SGD(0.1, 0.9)), updated(SGD(0.3, 0.0))
    grouped = updated(SGD(0.1, 0.9, [Group(is_bias, {"lr": 0.3, "momentum": 0.0})]))
    np.testing.assert_array_equal(grouped[6:8], other[6:8])
    np.testing.assert_array_equal(np.delete(grouped, [6, 7]), np.delete(plain, [6, 7]))


def test_a_group_with_a_hyperparameter_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="a group sets 'beta1', but SGD has only lr, momentum, weight_decay"):
        SGD(0.1, groups=[Group(is_bias, {"beta1": 0.1})])


@pytest.mark.parametrize("name", [*OPTIMIZERS, "a third party's"])
def test_an_optimizer_is_checkpointed_whole(name: str, tmp_path: Path) -> None:
    def trainer() -> Trainer:
        optimizer = OPTIMIZERS.get(name, Adaptive)()
        return Trainer(Sequential(Dense(6), ReLU(), Dense(4)), optimizer, SingleProcess(), batch_size=16)

    X, y = classified_rows(100)
    data = Dataset(X, y, classes=4, scale=Scale(255.0))
    whole, stopped, resumed = trainer(), trainer(), trainer()
    list(whole.fit(data, data, 3))

    def stop(rows: int) -> None:
        stopped.stop = stopped.steps_made == 10

    with pytest.raises(Interrupted):
        list(stopped.fit(data, data, 3, stop))
    with open(tmp_path / "c.npz", "wb") as file:
        write_snapshot(file, Snapshot(stopped.epoch, stopped.step, stopped.state()))
    snapshot = read_snapshot(tmp_path / "c.npz")
    resumed.prepare(data)
    resumed.restore(snapshot.epoch, snapshot.step, snapshot.arrays)
    assert resumed.optimizer.steps == stopped.optimizer.steps == 11
    list(resumed.fit(data, data, 3))
    for name, array in whole.state().items():
        np.testing.assert_array_equal(resumed.state()[name], array, err_msg=name)
    assert resumed.optimizer.steps == whole.optimizer.steps == 21
