"""How an option is declared: as a field of a frozen dataclass, checked when an object of it is made."""

import codecs
import dataclasses
import enum
import functools
import math
import numbers
import os
import re
from pathlib import Path
from typing import Any, TypeAlias

import click

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line

ParamType: TypeAlias = "click.ParamType[Any]"  # in quotes: it is generic only in the newest Click


class Change(enum.Enum):
    """What it means for a resumed run if an option is given another value than the run had."""

    RESULT = "refused"  # the run would not end as it would have ended
    OVERRIDE = "refused; --override allows it"  # likewise, but there are reasons to do it on purpose
    RUN = "allowed"  # the run's own value is taken if the option is not given
    MACHINE = "new"  # the run's own value is never taken: each start says it anew


@dataclasses.dataclass(frozen=True)
class Option:
    """One option. Its name is the key in a TOML file, and with two dashes in front the command line's."""

    name: str
    attribute: str
    """Of the settings object that holds its value."""
    type: ParamType
    default: Any
    help: str
    change: Change
    recorded: bool
    """Whether config.toml and checkpoints keep it."""
    metavar: str | None
    shown_default: str | None
    """In words, if the default is not one value."""
    repeatable: bool
    """Whether it may be given several times: its value is a tuple then."""
    absent: Any
    """What a run did whose version did not have the option yet; None: the default."""

    def check(self, value: Any) -> Any:
        """The value in the option's type. Raises InputError with the option's name if it is not allowed."""
        if value is None and self.default is None:
            return None
        try:
            if self.repeatable:
                return tuple(self.type.convert(_typed(part), None, None) for part in _parts(value))
            # As text, so that 2.5 is no whole number and true no 1, just as on the command line.
            text = list(map(_typed, value)) if self._has_parts(value) else _typed(value)
            return self.type.convert(text, None, None)
        except click.BadParameter as error:
            raise InputError(one_line(f"{self.name}: {error.message.rstrip('.')}")) from None

    def record(self, value: Any) -> Any:
        """The value as TOML and JSON can hold it; `check` takes it back."""
        if self.repeatable or self._has_parts(value):
            return list(value)
        return value if isinstance(value, bool | int | float) else as_text(value)

    def _has_parts(self, value: Any) -> bool:
        return self.type.arity > 1 and isinstance(value, list | tuple)


class Whole(click.IntRange):
    """A whole number in a range. What TOML can't hold, 2^63 and more, is too large."""

    name = "integer"

    def __init__(self, min: int, below: int = 2**63) -> None:
        super().__init__(min=min)
        self.below = below

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        _refuse_other_digits(value)
        number: int = super().convert(value, param, context)
        if number >= self.below:
            self.fail(f"{value} is too large", param, context)
        return number


class Real(click.FloatRange):
    """A finite number in a range."""

    name = "float"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> float:
        _refuse_other_digits(value)
        number: float = super().convert(value, param, context)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, context)
        return number


class Widths(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """Whole numbers above 0, with commas between: 128,64. Nothing at all is no hidden layer."""

    name = "integers"
    words = "whole numbers above 0, with commas between"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> tuple[int, ...]:
        text = as_text(value)
        if not re.fullmatch(r"(0*[1-9][0-9]{0,9}(,0*[1-9][0-9]{0,9})*)?", text):
            self.fail(f"{text!r} is not a list of whole numbers above 0, like 128,64", param, context)
        widths = tuple(map(int, text.split(","))) if text else ()
        if max(widths, default=0) >= 2**31:
            self.fail(f"{max(widths)} is too large", param, context)
        return widths


class CountOrAll(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """A whole number above 0, or the word all."""

    name = "integer"
    words = "whole number, above 0; all"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int | str:
        text = as_text(value)
        if not re.fullmatch("all|0*[1-9][0-9]{0,17}", text):
            self.fail(f"{value!r} is neither a whole number above 0 nor all", param, context)
        return text if text == "all" else int(text)


class WordOrDivisor(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """One of some words, or divide:K with a number K above 0."""

    name = "text"

    def __init__(self, *words: str) -> None:
        self._known = words
        self.words = ", ".join([*words, "divide:K with K above 0"])

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        text = as_text(value)
        word, colon, number = text.partition(":")
        if colon and word == "divide":
            return f"divide:{positive().convert(number, param, context)!r}"
        if text not in self._known:
            self.fail(f"{text!r} is none of {self.words}", param, context)
        return text


class NewPath(click.Path):
    """The path of a file or folder that may be missing. An empty text is a mistake: Path would take it for a dot."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        if not (text := str(value)) or "\0" in text:
            self.fail(f"{text!r} is not a path; is the variable set that it came from?", param, context)
        return super().convert(value, param, context)


class Text(click.ParamType):  # type: ignore[type-arg]  # generic only in the newest Click
    """Text that a TOML file can hold. A name of a file need not be such text."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        text = as_text(value)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail(f"{text!r} is not UTF-8 text, which config.toml needs", param, context)
        return text


class Encoding(Text):
    """The name of an encoding that Python knows."""

    words = "an encoding, like latin-1"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> str:
        text = super().convert(value, param, context)
        try:
            "a".encode(text)
            return codecs.lookup(text).name
        except LookupError:
            self.fail(f"{text!r} is no encoding that Python knows; latin-1 and utf-16 are two", param, context)


def positive(most: float | None = None) -> Real:
    """A finite number above 0."""
    return Real(min=0, min_open=True, max=most)


def count() -> Whole:
    """A whole number above 0."""
    return Whole(min=1)


def option(
    default: Any,
    type: ParamType,
    help: str = "",
    *,
    name: str | None = None,
    change: Change = Change.RESULT,
    recorded: bool = True,
    metavar: str | None = None,
    shown_default: str | None = None,
    repeatable: bool = False,
    absent: Any = None,
) -> Any:
    """Declare an option as a field of a Group.

    name: with dashes, if it is not the field's. change: RESULT unless said otherwise, so that an option whose author
    forgets to say it can't let a resumed run take another path.
    """
    facts = {"type": type, "help": help, "change": change, "recorded": recorded, "metavar": metavar}
    facts |= {"name": name, "shown_default": shown_default, "repeatable": repeatable, "absent": absent}
    return dataclasses.field(default=default, metadata=facts)


class Group:
    """Options that --help shows together, under the name of the class.

    A subclass is a frozen dataclass that declares them as fields. Its objects check their values when they are made:
    they raise InputError for one that is not allowed.
    """

    @classmethod
    @functools.cache
    def options(cls) -> tuple[Option, ...]:
        """The group's options, in the order in which they are declared."""
        options = []
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # of the subclasses
            facts = dict(field.metadata)
            name = facts.pop("name") or field.name.replace("_", "-")
            options.append(Option(name=name, attribute=field.name, default=field.default, **facts))
        return tuple(options)

    def __post_init__(self) -> None:
        for option in self.options():
            object.__setattr__(self, option.attribute, option.check(getattr(self, option.attribute)))


def _refuse_other_digits(value: Any) -> None:
    """Python would read the digits of all scripts."""
    if not as_text(value).isascii():
        raise click.BadParameter(f"{value!r} is not a number in the digits 0 to 9")


def as_text(value: Any) -> str:
    """A value as a person would type it."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def allowed(type: ParamType) -> str:
    """The values that a type allows, in words."""
    if isinstance(type, click.Tuple):
        return "; ".join(map(allowed, type.types))
    if isinstance(type, click.Choice):
        return ", ".join(map(str, type.choices))
    if isinstance(type, Whole | Real):
        words = ["whole number" if isinstance(type, Whole) else "number"]
        words.append(f"above {type.min:g}" if type.min_open else f"{type.min:g} or more")
        if type.max is not None:
            words.append(f"below {type.max:g}" if type.max_open else f"{type.max:,.10g} or less")
        return ", ".join(words)
    if isinstance(type, click.Path | click.types.BoolParamType):
        return "path" if isinstance(type, click.Path) else "true, false"
    return getattr(type, "words", "text")


def _parts(value: Any) -> Any:
    if not isinstance(value, list | tuple):
        raise click.BadParameter(f"must be a list, not a {type(value).__name__}")
    return value


def _typed(value: Any) -> str:
    """A value from TOML, JSON or Python as a person would type it. Raises BadParameter for one that nobody can type."""
    if isinstance(value, tuple):
        return as_text(tuple(map(_typed, value)))
    if not isinstance(value, str | numbers.Number | os.PathLike | None):
        raise click.BadParameter(f"must be text, a number, true or false, not a {type(value).__name__}")
    try:
        text = as_text(value)
    except ValueError:  # Python converts no longer ones
        raise click.BadParameter("must not be a number of thousands of digits") from None
    if "\0" in text:
        raise click.BadParameter(f"{text!r} has a NUL in it")
    return text
