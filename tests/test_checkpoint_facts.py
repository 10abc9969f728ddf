"""Checkpoints that somebody edited by hand: each ends in one line that names what is wrong."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddp_numpy import SGD, Dataset, Dense, InputError, ReLU, Scale, Sequential, SingleProcess, Trainer
from ddp_numpy.runs.resume import Start, identity
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot
from ddp_numpy.settings import Settings, Training

DATA = Dataset(np.arange(120, dtype=np.uint8).reshape(20, 6), np.arange(20) % 3, 3, Scale(255.0))
SETTINGS = Settings.of({"batch-size": 8, "hidden": "4", "momentum": 0.9, "epochs": 3})


def prepared() -> Trainer:
    trainer = Trainer(Sequential(Dense(4), ReLU(), Dense(3)), SGD(0.01, 0.9), SingleProcess(), batch_size=8)
    trainer.prepare(DATA)
    return trainer


def taken_up(path: Path) -> Trainer:
    """As a run is resumed."""
    snapshot = read_snapshot(path)
    start = Start(path.parent, snapshot, path)
    settings = start.settings(Settings(), set())
    trainer = prepared()
    start.check(settings, identity(trainer.model, DATA), lambda text: None)
    trainer.restore(snapshot.epoch, snapshot.step, start.arrays(trainer.state(), settings))
    return trainer


def write(path: Path, change: Callable[[dict[str, Any]], object] = lambda values: None) -> Path:
    """A checkpoint after one epoch and two steps; `change` gets all that is in it."""
    trainer = prepared()
    trainer.epoch_sums[...] = 20.0, 5, 16
    facts = {"options": SETTINGS.recorded(), "best": {"epoch": 1, "valid_accuracy": 0.5}, "blas": "OpenBLAS"}
    facts |= {"trajectory": identity(trainer.model, DATA)}
    values = {"epoch": 1, "step": 2, "arrays": dict(trainer.state()), "facts": copy.deepcopy(facts)}
    change(values)
    with open(path, "wb") as file:
        write_snapshot(file, Snapshot(**values))  # type: ignore[arg-type]
    return path


def test_a_checkpoint_that_nobody_edited_is_taken_up(tmp_path: Path) -> None:
    trainer = taken_up(write(tmp_path / "c.npz"))
    assert (trainer.epoch, trainer.step) == (1, 2)
    trainer.train_epoch(DATA)


def option(**options: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["facts"]["options"].update({k.replace("_", "-"): v for k, v in options.items()})


def fact(**facts: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["facts"].update(facts)


def array(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["arrays"].update({name: change(values["arrays"][name])})


def place(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update({name: value})


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "epoch -1": (place("epoch", -1), "checkpoint.epoch is -1, and must be a whole number from 0 to"),
    "epoch true": (place("epoch", True), "checkpoint.epoch is True"),
    "epoch 1.5": (place("epoch", 1.5), "checkpoint.epoch is 1.5"),
    "epoch text": (place("epoch", "1"), "checkpoint.epoch is '1'"),
    "epoch beyond the run": (place("epoch", 10**12), "is in epoch 1000000000001 already"),
    "epoch huge": (place("epoch", 10**30), "checkpoint.epoch is 1000000000000000000000000000000"),
    "step -1": (place("step", -1), "checkpoint.step is -1"),
    "step null": (place("step", None), "checkpoint.step is None"),
    "step beyond the epoch": (place("step", 7), "can't resume from step 7: it has counted 16 rows"),
    "another step": (place("step", 1), "can't resume from step 1: it has counted 16 rows"),
    "facts a list": (place("facts", []), "checkpoint.facts is a list, and must be an object"),
    "no options": (lambda values: values["facts"].pop("options"), "not a run's checkpoint: it does not note options"),
    "options a list": (fact(options=[]), "checkpoint.facts.options is a list"),
    "option a table": (option(lr={}), "checkpoint.facts.options.lr is an object"),
    "option null": (option(lr=None), "checkpoint.facts.options.lr is None"),
    "keep x": (option(keep="x"), "keep: 'x' is neither a whole number above 0 nor all"),
    "keep true": (option(keep=True), "keep: 'True' is neither"),
    "lr text": (option(lr="fast"), "lr: 'fast' is not a valid float"),
    "lr -1": (option(lr=-1), "lr: -1.0 is not in the range"),
    "epochs 0": (option(epochs=0), "epochs: 0 is not in the range"),
    "hidden a list": (option(hidden=[4]), "hidden: must be text, a number, true or false, not a list"),
    "checkpoint-every": (option(checkpoint_every=["steps"]), "checkpoint-every: 2 values are required"),
    "an option of no version": (option(zoneout="0.5\nerror: x"), "--zoneout was 0.5\\nerror: x, but this version"),
    "best a number": (fact(best=0.5), "checkpoint.facts.best is 0.5, and must be null or an object"),
    "best without epoch": (fact(best={"valid_accuracy": 0.5}), "checkpoint.facts.best has no epoch"),
    "best 1000 %": (fact(best={"epoch": 1, "valid_accuracy": 10}), "checkpoint.facts.best.valid_accuracy is 10"),
    "best text": (fact(best={"epoch": 1, "valid_accuracy": "x"}), "checkpoint.facts.best.valid_accuracy is 'x'"),
    "trajectory a text": (fact(trajectory="x"), "checkpoint.facts.trajectory is 'x'"),
    "trajectory empty": (fact(trajectory={}), "model was None, now"),
    "model a number": (fact(trajectory={"model": 3}), "checkpoint.facts.trajectory.model is 3"),
    "another divisor": (
        lambda values: values["facts"]["trajectory"]["model"].update(input_divisor=1.0),
        "model was {'input_shape': [6], 'input_divisor': 1.0",
    ),
    "blas a number": (fact(blas=3), "checkpoint.facts.blas is 3, and must be text"),
    "overrides a table": (fact(overrides={}), "checkpoint.facts.overrides is an object, and must be a list"),
    "an override of nothing": (fact(overrides=[{}]), "checkpoint.facts.overrides[0] has no epoch"),
    "params 2-D": (array("params", lambda a: a.reshape(1, -1)), "no vector of floating-point numbers, params"),
    "params whole": (array("params", lambda a: a.astype(int)), "no vector of floating-point numbers, params"),
    "params NaN": (array("params", lambda a: a * np.nan), "the array params holds a number that is not finite"),
    "params short": (array("params", lambda a: a[:-1]), "can't resume from a state of"),
    "params float64": (array("params", lambda a: a.astype(float)), "can't resume from a state of"),
    "velocity short": (array("optimizer.velocity", lambda a: a[:1]), "can't resume from a state of"),
    "velocity infinite": (array("optimizer.velocity", lambda a: a + np.inf), "the array optimizer.velocity holds a"),
    "sums of text": (array("epoch_sums", lambda a: a.astype(str)), "the array epoch_sums holds <U32, not numbers"),
    "an array less": (lambda values: values["arrays"].pop("epoch_sums"), "can't resume from a state of"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_edited_is_named_in_one_line(edit: str, tmp_path: Path) -> None:
    change, words = EDITS[edit]
    path = write(tmp_path / "c.npz", change)
    with pytest.raises(InputError) as caught:
        taken_up(path)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_arrays_are_those_that_the_description_names(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "c.npz")) as arrays:
        members = dict(arrays)
    np.savez(tmp_path / "c.npz", **members, extra=np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"it has the arrays .*extra, and must have"):
        read_snapshot(tmp_path / "c.npz")


def test_facts_of_a_later_version_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "c.npz", fact(numpy="9.9", host={"cores": [1, 2]}))
    assert taken_up(path).epoch == 1


def test_what_another_version_counts_as_an_epochs_end_is_taken_up(tmp_path: Path) -> None:
    """Stopped after an epoch's last step, before its evaluation."""
    path = write(tmp_path / "c.npz", lambda values: (values.update(step=3), values["arrays"]["epoch_sums"].put(2, 20)))
    assert taken_up(path).step == 3


def test_settings_are_refused_by_the_same_rules_from_any_source() -> None:
    for make in (lambda: Settings.of({"lr": -1}), lambda: Training(lr=-1)):
        with pytest.raises(InputError, match=r"lr: -1\.0 is not in the range"):
            make()
