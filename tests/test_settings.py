"""Every option is declared once, and all else follows from there."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from ddp_numpy import InputError
from ddp_numpy.settings import OPTIONS, Data, Model, Output, Settings, Training, reference

CHECKOUT = Path(__file__).parents[1]


def test_the_reference_table_is_that_of_the_documentation() -> None:
    written = (CHECKOUT / "docs" / "options.md").read_text()
    assert written == reference(), "python -m ddp_numpy.settings > docs/options.md"


def test_the_reference_table_shows_words_in_angle_brackets() -> None:
    assert "| runs/&lt;time&gt; |" in reference(), "Markdown takes <time> for a tag, and shows nothing"


def test_settings_are_typed() -> None:
    settings = Settings(training=Training(batch_size=128, lr=0.5), output=Output(out=Path("a")))
    assert settings.training.batch_size == 128
    assert settings.model.hidden == (128, 64)
    assert settings.output.checkpoint_every == (1, "epochs")
    assert Model(hidden="12,7").hidden == Model(hidden=(12, 7)).hidden == (12, 7)  # type: ignore[arg-type]
    assert Model(hidden=()).hidden == ()
    assert Output(out="b").out == Path("b")  # type: ignore[arg-type]
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.training.batch_size = 7  # type: ignore[misc]


@pytest.mark.parametrize(
    ("group", "values", "message"),
    [
        (Training, {"batch_size": 0}, "batch-size: 0 is not in the range x>=1"),
        (Training, {"batch_size": 2.5}, "batch-size: '2.5' is not a valid integer"),
        (Training, {"epochs": True}, "epochs: 'True' is not a valid integer"),
        (Training, {"epochs": None}, "epochs: 'None' is not a valid integer"),
        (Training, {"lr": math.nan}, "lr: 'nan' is not a finite number"),
        (Training, {"lr": "fast"}, "lr: 'fast' is not a valid float"),
        (Training, {"momentum": math.nan}, "momentum: 'nan' is not a finite number"),
        (Training, {"momentum": 1}, "momentum: 1.0 is not in the range 0<=x<1"),
        (Training, {"clip_norm": math.inf}, "clip-norm: 'inf' is not a finite number"),
        (Training, {"reproducible": "perhaps"}, "reproducible: 'perhaps' is not a valid boolean"),
        (Training, {"comm": "pigeon"}, "comm: 'pigeon' is not one of 'auto', 'node-shared', 'allreduce'"),
        (Data, {"valid_fraction": math.nan}, "valid-fraction: 'nan' is not a finite number"),
        (Data, {"valid_fraction": 1}, "valid-fraction: 1.0 is not in the range 0<x<1"),
        (Model, {"hidden": (12, -3)}, "hidden: '12,-3' is not a list of whole numbers above 0, like 128,64"),
        (Output, {"keep": 0}, "keep: '0' is neither a whole number above 0 nor all"),
        (Output, {"checkpoint_every": (2, "hours")}, "checkpoint-every: 'hours' is not one of 'steps', 'epochs'"),
    ],
)
def test_what_is_not_allowed_is_refused_where_it_is_made(group: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        group(**values)
    assert str(caught.value).startswith(message)


def some_other(name: str) -> Any:
    """A value that is not the option's default."""
    others = {
        "data": "mnist",
        "hidden": (5,),
        "dtype": "float64",
        "comm": "allreduce",
        "checkpoint-every": (3, "steps"),
    }
    others |= {"label-column": "digit", "resume": "auto", "out": Path("a"), "valid-fraction": 0.3, "momentum": 0.5}
    default = OPTIONS[name].default
    if name in others:
        return others[name]
    return not default if isinstance(default, bool) else (default or 0) + 2


@pytest.mark.parametrize("name", OPTIONS)
def test_any_value_is_recorded_and_read_back(name: str) -> None:
    settings = Settings.of({name: some_other(name)})
    assert settings != Settings()
    assert settings.values()[name] == some_other(name)
    again = Settings.of(settings.recorded())
    assert again == (settings if OPTIONS[name].recorded else Settings())


@pytest.mark.parametrize("name", OPTIONS)
def test_what_a_change_means_for_a_resumed_run(name: str) -> None:
    before, other = Settings().recorded(), Settings.of({name: some_other(name)})
    result = {"hidden", "dtype", "batch-size", "lr", "momentum", "clip-norm", "seed", "reproducible", "micro-rows"}
    assert bool(other.changed(before)) == (name in result)
    assert all(change.startswith(f"--{name} was ") for change in other.changed(before))
    # What is not given comes from the run, but for what each start says anew.
    anew = {"comm", "stall-timeout", "resume", "quiet", "out"}
    assert Settings().resuming(other.recorded(), set()) == (Settings() if name in anew else other)
    assert Settings().resuming(other.recorded(), {name}) == Settings()


def test_an_option_that_the_runs_version_did_not_have_counts_as_its_default() -> None:
    before = Settings().recorded()
    del before["momentum"]
    assert Settings().changed(before) == []
    assert Settings(training=Training(momentum=0.5)).changed(before) == ["--momentum was 0.0, now 0.5"]


def test_an_option_that_only_the_runs_version_has_is_named() -> None:
    before = Settings().recorded() | {"dropout": 0.5}
    assert Settings().changed(before) == ["--dropout was 0.5, but this version has no such option"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(
        InputError, match="unknown key 'batch'; the keys are batch-size, check-replicas, checkpoint-every"
    ):
        Settings.of({"batch": 64})
