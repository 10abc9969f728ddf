"""Every option is declared once, and all else follows from there."""

import dataclasses
import datetime
import math
from pathlib import Path
from typing import Any

import pytest

from ddp_numpy import InputError
from ddp_numpy.reference import reference
from ddp_numpy.settings import OPTIONS, Data, Model, Output, Settings, Training

CHECKOUT = Path(__file__).parents[1]


def test_the_reference_table_is_that_of_the_documentation() -> None:
    written = (CHECKOUT / "docs" / "options.md").read_text()
    assert written == reference(), "python -m ddp_numpy.reference > docs/options.md"


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
        "exchange": "factors",
        "checkpoint-every": (3, "steps"),
    }
    others |= {"label-column": "digit", "resume": "auto", "out": Path("a"), "valid-fraction": 0.3, "momentum": 0.5}
    others |= {"override": ("lr=0.5",), "optimizer": "adam"}
    others |= {
        "drop": ("id", "name, or so"),
        "encoding": "iso8859-1",
        "categorical": ("auto", "zip"),
        "missing": "mean",
        "valid": "v.csv",
        "test": "t.csv",
        "class-weight": "balanced",
        "scale": "standard",
        "task": "regress",
        "loss": "huber",
        "mlflow": "file:m",
    }
    others |= dict.fromkeys(("beta1", "beta2", "decay", "weight-decay", "lr-factor", "average"), 0.5)
    others |= dict.fromkeys(("dropout", "input-dropout", "label-smoothing"), 0.5)
    others |= dict.fromkeys(("augment-scale", "augment-erase"), 0.5)
    others |= {"model": "cnn", "model-file": Path("/a.py")}
    others |= {"lr-scaling": "sqrt", "schedule": "cosine", "warm-up": (3, "steps"), "lr-every": (3, "epochs")}
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
    result = {"hidden", "dtype", "batch-size", "lr", "momentum", "clip-norm", "seed"}
    result |= {"exchange", "reproducible", "micro-rows", "optimizer", "nesterov", "beta1", "beta2", "decay", "epsilon"}
    result |= {"trust", "weight-decay", "decay-all", "lr-scaling", "base-batch-size", "schedule", "warm-up", "power"}
    result |= {"schedule-epochs", "final-lr", "lr-every", "lr-factor", "patience", "early-stopping", "min-delta"}
    result |= {"model", "dropout", "input-dropout", "batch-norm", "label-smoothing", "average", "accumulate"}
    result |= {name for name in OPTIONS if name.startswith("augment-")} | {"loss", "huber-delta", "class-weight"}
    assert bool(other.changed(before)) == (name in result)
    assert all(change.startswith(f"--{name} was ") for change in other.changed(before))
    # What is not given comes from the run, but for what each start says anew.
    anew = {"comm", "stall-timeout", "resume", "quiet", "out", "override", "describe", "model-file", "map-above"}
    anew |= {"dashboard", "tensorboard", "mlflow", "wandb"}
    assert Settings().resuming(other.recorded(), set()) == (Settings() if name in anew else other)
    assert Settings().resuming(other.recorded(), {name}) == Settings()


def test_an_option_that_the_runs_version_did_not_have_counts_as_its_default() -> None:
    before = Settings().recorded()
    del before["seed"]
    assert Settings().changed(before) == []
    assert Settings(training=Training(seed=5)).changed(before) == ["--seed was 1, now 5"]
    assert Settings(training=Training(momentum=0.5)).changed(before) == [
        "--momentum was its default, now 0.5 (--override momentum=0.5 changes it)"
    ]


def test_a_run_of_before_there_were_exchanges_goes_on_with_gradients() -> None:
    before = Settings().recorded()
    del before["exchange"]
    assert Settings().resuming(before, set()).training.exchange == "gradients"
    assert Settings().changed(before) == ["--exchange was gradients, now auto"]


def test_an_option_that_only_the_runs_version_has_is_named() -> None:
    before = Settings().recorded() | {"zoneout": 0.5}
    assert Settings().changed(before) == ["--zoneout was 0.5, but this version has no such option"]


def overriding(*texts: str) -> Settings:
    return Settings.of({"override": texts})


def test_an_override_wins_over_the_runs_value() -> None:
    before = Settings(training=Training(lr=1000.0)).recorded()
    resumed = overriding("lr=0.5", "clip-norm=2").resuming(before, set())
    assert (resumed.training.lr, resumed.training.clip_norm) == (0.5, 2.0)
    assert resumed.changed(before) == []
    assert "override" not in resumed.recorded()
    again = Settings.of(overriding("lr=0.5").values() | {"lr": 1000.0}).resuming(before, {"lr"})
    assert again.training.lr == 0.5, "the command that began the run, with an override behind it"
    with pytest.raises(InputError, match=r"--lr is 7\.0, but --override says 0\.5"):
        Settings.of(overriding("lr=0.5").values() | {"lr": 7.0}).resuming(before, {"lr"})


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["seed=2"], "override: 'seed=2' is not lr=value or momentum=value or weight-decay=value or clip-norm=value"),
        (["lr"], "override: 'lr' is not lr=value"),
        (["lr=-1"], "override: lr: -1.0 is not in the range x>0"),
        (["lr=x"], "override: lr: 'x' is not a valid float"),
        ("lr=1", "override: must be a list, not a str"),
    ],
)
def test_what_can_not_be_overridden(override: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Settings.of({"override": override})
    assert str(caught.value).startswith(message)


DEEP: Any = []
for _ in range(5000):
    DEEP = [DEEP]


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(
    "value",
    [DEEP, {}, [[]], [1, 2, 3], datetime.date(2000, 1, 1), 10**6000, "9" * 6000, "a\0b", "\u0663", b"x", "x" * 10**6],
    ids=["deep", "table", "list", "numbers", "date", "huge", "digits", "NUL", "script", "bytes", "long"],
)
def test_no_value_is_more_than_one_line_of_error(name: str, value: Any) -> None:
    try:
        Settings.of({name: value})
    except InputError as error:
        assert str(error).startswith(f"{name}: ")  # noqa: PT017
        assert len(str(error).splitlines()) == 1  # noqa: PT017
        assert len(str(error)) < 2000  # noqa: PT017
    else:
        texts = value if OPTIONS[name].repeatable else [value]
        assert OPTIONS[name].repeatable or isinstance(value, str), "only text may be text"
        assert OPTIONS[name].type.name in ("text", "path")
        assert not any("\0" in str(text) for text in texts)


@pytest.mark.parametrize(
    "values",
    [
        {"hidden": "1,,2"},
        {"hidden": "," * 5000},
        {"hidden": "8,"},
        {"hidden": 2**31},
        {"epochs": 10**30},
        {"keep": 10**30},
        {"seed": 2**128},
        {"checkpoint-every": [10**30, "steps"]},
        {"checkpoint-every": ["steps"]},
        {"checkpoint-every": 5},
        {"stall-timeout": 1e300},
        {"data": "caf\udce9.csv"},
        {"label-column": "caf\udce9"},
    ],
)
def test_values_that_no_run_can_have(values: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Settings.of(values)


def test_names_of_folders_need_not_be_text() -> None:
    assert Settings.of({"out": "caf\udce9", "seed": 2**128 - 1}).output.out == Path("caf\udce9")


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"unknown key 'batch': is batch-size meant\?"):
        Settings.of({"batch": 64})
    with pytest.raises(InputError, match=r"unknown key 'xyzzy': python -m ddp_numpy\.train --help"):
        Settings.of({"xyzzy": 64})
