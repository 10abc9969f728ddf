"""Lines for people. A message that can't be delivered never ends or stops anything."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Sequence
from typing import Any, TextIO

_LONGEST_WORD, _LONGEST_LINE = 160, 1200


def one_line(text: object) -> str:
    """The text as one printable line.

    Names of files and values in a message come from anywhere. So what would move the terminal's cursor, change its
    colours or begin a line of its own is shown as Python writes it, and long words are cut in the middle. Example:
    "a\\x1b[31m" is shown with the four characters \\x1b in place of the escape.
    """
    shown = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in str(text))
    return _cut(re.sub(rf"\S{{{_LONGEST_WORD},}}", lambda word: _cut(word[0], _LONGEST_WORD), shown), _LONGEST_LINE)


def tell(text: object) -> None:
    """Print a line to stderr, if that is possible."""
    tell_lines(f"{one_line(text)}\n")


def tell_lines(text: str) -> None:
    """Print whole lines to stderr as they are, if that is possible: for the traces of our own program."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a full disk; a closed stream; no stream
        sys.stderr.write(text)
        sys.stderr.flush()


def aligned(table: Sequence[Sequence[str]]) -> list[str]:
    """The rows of a table as lines, each column as wide as its widest cell."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in table]


class _Tolerant:
    """A text stream that takes everything. What it can't pass on is lost."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":  # Click would write to it directly
            raise AttributeError(name)
        return getattr(self._stream, name)


def begin_command() -> None:
    """What every command does first, on every rank."""
    tolerate_lost_output()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as the package was told for the time of the imports
        signal.signal(signal.SIGINT, signal.default_int_handler)


def tolerate_lost_output() -> None:
    """Let this process go on if its stdout or stderr is closed, full, or can't write some letter.

    Called once, at the start of a command: the reader of its output may go before the work is done.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, _Tolerant):
            continue
        if stream is None:  # its descriptor was closed when Python started
            stream = open(os.devnull, "w")  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, _Tolerant(stream))


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: longest * 2 // 3]}…{text[-(longest // 3) :]}"
