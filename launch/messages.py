"""Lines for people, and words for the shell."""

import os
import re
import shlex
import sys
from collections.abc import Iterable

_LONGEST_WORD, _LONGEST_LINE = 160, 1200


def one_line(text: object) -> str:
    """The text as one printable line, as ddp_numpy.base.messages makes it: the launcher does not import that package.

    Names of files and hosts, and what other hosts say, come from anywhere. So what would move the terminal's cursor,
    change its colours or begin a line of its own is shown as Python writes it, and long words are cut in the middle.
    """
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))
    return _cut(re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: _cut(word[0], _LONGEST_WORD), shown), _LONGEST_LINE)


def tell(text: object) -> None:
    """Print a line to stderr."""
    print(one_line(text), file=sys.stderr, flush=True)


def shell(words: Iterable[str]) -> str:
    """The words as one line for bash. A word with a letter that does not print is written in the form $'a\\x0ab'."""
    return " ".join(shlex.quote(word) if word.isprintable() else _escaped(word) for word in words)


def _escaped(word: str) -> str:
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(word))
    return f"$'{''.join(plain)}'"


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]}…{text[-(longest // 3) :]}"
