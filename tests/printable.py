"""Whether the source can print a line: its texts, with holes for what is known only when it runs."""

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
_HOLE = None
Text = tuple[str | None, ...]
"""A text of the source in pieces: words, and holes. Runs of spaces are one space."""
_DEEPEST = 6  # texts within the holes of one another
_LONG = 20  # letters of texts of which two may stand in one hole, as text += text makes them


@functools.cache
def source_texts() -> frozenset[Text]:
    """The texts of the package and of the launcher."""
    paths = [path for name in ("ddp_numpy", "launch") for path in (CHECKOUT / name).rglob("*.py")]
    return frozenset(text for path in paths for text in texts(ast.parse(path.read_text())))


def texts(tree: ast.Module) -> Iterator[Text]:
    """The texts of a module, without docstrings. What is added to a text by + is a part of it."""
    parts: set[ast.AST] = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts |= {*node.values}
        elif isinstance(node, ast.FormattedValue) and node.format_spec is not None:
            parts |= {*ast.walk(node.format_spec)}
        if node not in parts and (pieces := _pieces(node)):
            yield tuple(pieces)


def _pieces(node: ast.AST) -> list[str | None]:
    """The pieces of a text; [] if the node is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [one_space(node.value)]
    if isinstance(node, ast.JoinedStr):
        return [piece for value in node.values for piece in _pieces(value) or [_HOLE]]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _pieces(node.left), _pieces(node.right)
        return [*(left or [_HOLE]), *(right or [_HOLE])] if left or right else []
    return []


def one_space(text: str) -> str:
    """The text with each run of spaces as one."""
    return re.sub(" +", " ", text)


def is_printable(line: str, source: Iterable[Text]) -> bool:
    """Whether texts of the source make this line, in which … or '…' stands for what is in a hole."""
    return _Line(one_space(line), source).is_made


class _Line:
    def __init__(self, line: str, source: Iterable[Text]) -> None:
        self._line = line
        self._texts = [text for text in source if all(words in line for words in text if words)]
        self._long = {text for text in self._texts if sum(map(str.isalpha, "".join(filter(None, text)))) >= _LONG}
        self._known: dict[tuple[int, int], set[int]] = {}

    @property
    def is_made(self) -> bool:
        return any(len(self._line) in self._ends(text, 0, _DEEPEST) for text in self._texts if text != (_HOLE,))

    def _ends(self, text: Text, start: int, depth: int) -> set[int]:
        """Where the text may end, if it begins here."""
        places = {start}
        before: str | None = ""
        for piece in text:
            if piece is not _HOLE:
                places = {place + len(piece) for place in places if self._line.startswith(piece, place)}
            else:
                filled = {end for place in places for end in self._fills(place, depth - 1)}
                # Behind a letter or another hole stands an ending, which may be empty: "row{'s' * (n > 1)}".
                places = filled | places if before is _HOLE or before[-1:].isalpha() else filled
            before = piece
        return places

    def _fills(self, place: int, depth: int) -> set[int]:
        """Where what stands in a hole may end, if it begins here."""
        if (place, depth) not in self._known:
            found = {place + len(hole) for hole in ("…", "'…'") if self._line.startswith(hole, place)}
            if depth:
                for text in self._texts:
                    ends = self._ends(text, place, depth)
                    found |= ends
                    if text in self._long:
                        found |= {end for middle in ends for more in self._long for end in self._ends(more, middle, 1)}
            self._known[place, depth] = found
        return self._known[place, depth]
