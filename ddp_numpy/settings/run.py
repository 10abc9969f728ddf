"""All options of a run together: their values, and what a resumed run makes of them."""

import dataclasses
import difflib
import glob
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.options import Change, Option, as_text
from ddp_numpy.settings.groups import Data, Model, Output, Training


@dataclasses.dataclass(frozen=True)
class Settings:
    """All options of a training run, by group."""

    data: Data = dataclasses.field(default_factory=Data)
    model: Model = dataclasses.field(default_factory=Model)
    training: Training = dataclasses.field(default_factory=Training)
    output: Output = dataclasses.field(default_factory=Output)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "Settings":
        """The settings with these values, by the options' names, and defaults for all others.

        Raises InputError for a name that is no option's, and for a value that is not allowed.
        """
        for name in values:
            if name not in OPTIONS:
                alike = difflib.get_close_matches(name, OPTIONS, n=1)
                meant = f"is {alike[0]} meant? " if alike else ""
                raise InputError(f"unknown key {name!r}: {meant}python -m ddp_numpy.train --help shows all options")
        groups = {
            name: kind(**{option.attribute: values[option.name] for option in kind.options() if option.name in values})
            for name, kind in GROUPS.items()
        }
        return cls(**groups)

    def values(self) -> dict[str, Any]:
        """All values by the options' names."""
        groups = [(getattr(self, name), kind.options()) for name, kind in GROUPS.items()]
        return {option.name: getattr(group, option.attribute) for group, options in groups for option in options}

    def recorded(self) -> dict[str, Any]:
        """The values as config.toml and checkpoints keep them: from any folder, `of` makes the same settings again.

        Raises InputError if the data lies in a folder of which config.toml can't hold the name.
        """
        values = {
            name: OPTIONS[name].record(value)
            for name, value in sorted(self.values().items())
            if OPTIONS[name].recorded and value is not None
        }
        for name in ("data", "valid", "test"):
            source = values.get(name, "digits")
            if source not in ("digits", "mnist") and (os.path.exists(source) or glob.glob(source)):
                values[name] = OPTIONS[name].check(str(Path(source).resolve()))
        return values

    def overrides(self) -> dict[str, Any]:
        """The values that --override gives, by the options' names."""
        pairs = [text.partition("=") for text in self.output.override]
        return {name: OPTIONS[name].check(value) for name, _, value in pairs}

    def resuming(self, before: Mapping[str, Any], given: set[str]) -> "Settings":
        """These settings, with the resumed run's values for options that are not given anew.

        before: what `recorded` returned for that run; given: names of options. What --override says wins. Raises
        InputError if an option is given a third value besides.
        """
        before = _absent() | dict(before)
        kept = {name for name, option in OPTIONS.items() if option.change is not Change.MACHINE} - given
        values, new = self.values(), self.overrides()
        for name in new.keys() & given:
            if values[name] not in (new[name], OPTIONS[name].check(before.get(name, OPTIONS[name].default))):
                raise InputError(f"--{name} is {as_text(values[name])}, but --override says {as_text(new[name])}")
        return Settings.of(values | {name: value for name, value in before.items() if name in kept} | new)

    def changed(self, before: Mapping[str, Any]) -> list[str]:
        """What would change the result of the run that is resumed, in words. before: as in `resuming`.

        An option that the run's version did not have yet counts as what that version did. What --override changes is
        not among them.
        """
        changes, on_purpose, before = [], self.overrides(), _absent() | dict(before)
        for name, now in self.values().items():
            option = OPTIONS[name]
            if option.change not in (Change.RESULT, Change.OVERRIDE) or name in on_purpose:
                continue
            was = option.check(before.get(name, option.default))
            if was != now:
                hint = f" (--override {name}={as_text(now)} changes it)" if option.change is Change.OVERRIDE else ""
                words = ["its default" if value is None else as_text(value) for value in (was, now)]
                changes.append(f"--{name} was {words[0]}, now {words[1]}{hint}")
        changes += [
            f"--{name} was {before[name]}, but this version has no such option" for name in before.keys() - OPTIONS
        ]
        return changes


GROUPS: dict[str, Any] = {field.name: field.default_factory for field in dataclasses.fields(Settings)}
"""The groups' classes, by their names in Settings. The class's own name is the title in --help."""
OPTIONS: dict[str, Option] = {option.name: option for kind in GROUPS.values() for option in kind.options()}
"""All options by name."""


def _absent() -> dict[str, Any]:
    """What a run did whose version did not have an option yet, where that was not the option's default."""
    return {name: option.absent for name, option in OPTIONS.items() if option.absent is not None}
