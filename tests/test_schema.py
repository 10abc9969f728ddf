from typing import Any

import numpy as np
import pytest

from ddp_numpy import InputError
from ddp_numpy.base.memory import memory_for
from ddp_numpy.base.schema import OneOf, Real, Whole, check, from_json

SCHEMA = {"n": Whole(1, 9), "x?": (None, Real(0, 1)), "names": [str], "more?": {...: (bool, {"a": Whole()})},
          "kind?": OneOf("a", "b")}  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        {"n": 1, "names": []},
        {"n": 9, "names": ["a", ""], "x": None, "kind": "b"},
        {"n": np.int64(5), "names": [], "x": 1, "more": {}},
        {"n": 2, "names": [], "x": 0.5, "more": {"any": True, "name": {"a": 0}}},
    ],
)
def test_what_a_schema_allows(value: dict[str, Any]) -> None:
    check(value, SCHEMA, "top")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "top is a list, and must be an object"),
        ({"names": []}, "top has no n"),
        ({"n": 1}, "top has no names"),
        ({"n": 10, "names": []}, "top.n is 10, and must be a whole number from 1 to 9"),
        ({"n": True, "names": []}, "top.n is True, and must be a whole number"),
        ({"n": 1.0, "names": []}, "top.n is 1.0, and must be a whole number"),
        ({"n": 1, "names": ["a", 1]}, "top.names[1] is 1, and must be text"),
        ({"n": 1, "names": [], "kind": "c"}, "top.kind is 'c', and must be 'a' or 'b'"),
        ({"n": 1, "names": [], "kind": 1}, "top.kind is 1, and must be 'a' or 'b'"),
        ({"n": 1, "names": {}}, "top.names is an object, and must be a list"),
        ({"n": 1, "names": [], "x": "1"}, "top.x is '1', and must be null or a number from 0 to 1"),
        ({"n": 1, "names": [], "x": float("nan")}, "top.x is nan, and must be null or a number"),
        ({"n": 1, "names": [], "y\x1b": 1}, "top has a member 'y\\x1b', which does not belong there"),
        ({"n": 1, "names": [], "more": {"b": {"a": -1}}}, "top.more.b.a is -1, and must be a whole number from 0 to"),
        ({"n": 1, "names": [], "more": {"b\n": 1}}, "top.more.b\\n is 1, and must be true or false or an object"),
    ],
)
def test_what_is_wrong_is_named(value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        check(value, SCHEMA, "top")
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("text", ['{"a": 1, "a": 1}', "NaN", "[Infinity]", "[" * 10**5, "9" * 5000, "{", "", "\0"])
def test_texts_that_are_no_json(text: str) -> None:
    with pytest.raises(InputError, match="its JSON is"):
        from_json(text)
    assert from_json('{"a": [1, 2.5, null]}') == {"a": [1, 2.5, None]}


def test_what_does_not_fit_into_memory_is_not_begun() -> None:
    with pytest.raises(InputError, match=r"a heap needs 1,000,000\.0 GB of memory"), memory_for("a heap", 10**15):
        pytest.fail("begun")
    with pytest.raises(InputError, match=r"a heap needs 0\.0 GB of memory"), memory_for("a heap", 7):
        raise MemoryError
