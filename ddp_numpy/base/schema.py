"""What a value that was read from a file must look like, and whether it does.

A schema is made of

    Whole(1), Real(0, 1)   a number in a range, which is finite and neither text nor true or false
    OneOf("a", "b")        one of these texts
    str, bool, None        text; true or false; null
    object                 anything
    [S]                    a list of values of the schema S
    {"a": S, "b?": T}      an object with the member a, perhaps the member b, and no other
    {...: S}               an object with members of any name; beside other names: with more members of any name
    (S, T)                 either of them
"""

import json
import numbers
from dataclasses import dataclass
from typing import Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line

Schema = Any


@dataclass(frozen=True)
class Whole:
    """A whole number in a range."""

    least: int = 0
    most: int = 2**63 - 1


@dataclass(frozen=True)
class Real:
    """A finite number in a range."""

    least: float
    most: float


class OneOf:
    """One of some texts."""

    def __init__(self, *texts: str) -> None:
        self.texts = texts


def from_json(text: str) -> Any:
    """The value of a JSON text. Raises InputError if it is not valid, or has the same member twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except RecursionError:
        raise InputError("its JSON is nested too deep") from None
    except ValueError as error:
        raise InputError(f"its JSON is not valid: {error}") from None


def check(value: Any, schema: Schema, where: str) -> None:
    """Raise InputError unless the value has the schema. where: its name, which the error says."""
    if isinstance(schema, tuple):
        schema = next((choice for choice in schema if _is_kind(value, choice)), schema)
    if not _is_kind(value, schema):
        shown = "a list" if isinstance(value, list) else "an object" if isinstance(value, dict) else repr(value)
        raise InputError(one_line(f"{where} is {shown}, and must be {_words(schema)}"))
    if isinstance(schema, list):
        for number, part in enumerate(value):
            check(part, schema[0], f"{where}[{number}]")
    elif isinstance(schema, dict):
        members = {name if name is ... else name.removesuffix("?"): part for name, part in schema.items()}
        for name in schema:
            if name is not ... and not name.endswith("?") and name not in value:
                raise InputError(f"{where} has no {name}")
        for name, part in value.items():
            if name not in members and ... not in members:
                raise InputError(one_line(f"{where} has a member {name!r}, which does not belong there"))
            check(part, members.get(name, members.get(...)), one_line(f"{where}.{name}"))


def _is_kind(value: Any, schema: Schema) -> bool:
    """Whether the value has the schema, parts of lists and objects left aside."""
    if isinstance(schema, Whole | Real):
        kind: Any = numbers.Integral if isinstance(schema, Whole) else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool) and bool(schema.least <= value <= schema.most)
    if isinstance(schema, list | dict):
        return isinstance(value, type(schema))
    if isinstance(schema, OneOf):
        return isinstance(value, str) and value in schema.texts
    return value is None if schema is None else isinstance(schema, type) and isinstance(value, schema)


def _words(schema: Schema) -> str:
    if isinstance(schema, tuple):
        return " or ".join(map(_words, schema))
    if isinstance(schema, Whole):
        return f"a whole number from {schema.least:,} to {schema.most:,}"
    if isinstance(schema, Real):
        return f"a number from {schema.least:g} to {schema.most:g}"
    if isinstance(schema, list | dict):
        return "a list" if isinstance(schema, list) else "an object"
    if isinstance(schema, OneOf):
        return " or ".join(map(repr, schema.texts))
    return {str: "text", bool: "true or false", None: "null"}[schema]


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON. Python's reader would take the last of two members with the same name."""
    names = dict(members)
    if len(names) < len(members):
        raise ValueError("an object has the same member twice")
    return names


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not a number of JSON")
