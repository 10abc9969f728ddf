"""A page in parts, as HTML that needs no other file, and as Markdown."""

import base64
import html
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ddp_numpy.pages.pictures import DARK, LIGHT, Picture, rendered


class Heading(NamedTuple):
    """Of a part of the page."""

    text: str


class Paragraph(NamedTuple):
    """A line of words."""

    text: str


class Table(NamedTuple):
    """Names of columns, and rows."""

    names: Sequence[str]
    rows: Sequence[Sequence[str]]


class Listing(NamedTuple):
    """Lines as they are."""

    text: str


Block = Heading | Paragraph | Table | Listing | Picture

_STYLE = """
:root { color-scheme: light dark; --ink: %(ink)s; --paper: %(paper)s; --line: %(grid)s }
@media (prefers-color-scheme: dark) { :root { --ink: %(dark_ink)s; --paper: %(dark_paper)s; --line: %(dark_grid)s } }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --line: %(grid)s } }
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 62rem;
  margin: 0 auto; padding: 1rem }
h1 { font-size: 1.6rem; line-height: 1.2 } h2 { font-size: 1.2rem; margin-top: 2rem }
figure { margin: 1rem 0 } figcaption { font-size: .9rem } img { width: 100%%; height: auto }
.table { overflow-x: auto } table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .5rem; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap }
th:first-child, td:first-child { text-align: left }
@media (max-width: 40rem) { figure { overflow-x: auto } img { min-width: 36rem } }
pre { overflow-x: auto; font-size: .8rem; border: 1px solid var(--line); padding: .6rem }
@page { size: A4; margin: 16mm }
@media print { figure { overflow: visible } img { min-width: 0 }
  body { max-width: none; padding: 0; font-size: 10pt } table { font-size: 7pt; width: 100%% }
  th, td { padding: .1rem .25rem } figure, tr, pre { break-inside: avoid } h2 { break-after: avoid }
  pre { white-space: pre-wrap; font-size: 7pt } }
"""


def as_html(title: str, blocks: Sequence[Block]) -> str:
    """A page for a browser, light or dark as its reader has it, and for print."""
    colours = LIGHT._asdict() | {f"dark_{name}": value for name, value in DARK._asdict().items()}
    body = "\n".join(_html(block) for block in blocks)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE % colours}</style>\n</head>\n"
        f"<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text):
            return f"<h2>{html.escape(text)}</h2>"
        case Paragraph(text):
            return f"<p>{html.escape(text)}</p>"
        case Listing(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(names, rows):
            head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
            lines = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n" for row in rows
            )
            return f'<div class="table"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}</tbody></table></div>'
        case Picture():
            light, dark = (
                "data:image/svg+xml;base64," + base64.b64encode(rendered(block, style, "svg")).decode()
                for style in (LIGHT, DARK)
            )
            return (
                f'<figure><picture>\n<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">\n'
                f'<img src="{light}" alt="{html.escape(block.alt)}">\n</picture>\n'
                f"<figcaption>{html.escape(block.title)}</figcaption></figure>"
            )


def as_markdown(title: str, blocks: Sequence[Block]) -> str:
    """The same, with pictures in files beside it: see files."""
    return "\n\n".join([f"# {title}", *map(_markdown, blocks)]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text):
            return f"## {text}"
        case Paragraph(text):
            return text
        case Listing(text):
            return f"```bash\n{text.rstrip()}\n```"
        case Table(names, rows):
            cells = [names, ["---:"] * len(names), *rows]
            return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)
        case Picture(name, caption, alt):
            return (
                f'<picture><source media="(prefers-color-scheme: dark)" srcset="{name}-dark.svg">'
                f'<img src="{name}.svg" alt="{html.escape(alt)}"></picture>\n\n{caption}'
            )


def files(blocks: Sequence[Block]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a page's pictures: SVG for light and dark pages, and PNG for print."""
    for block in blocks:
        if isinstance(block, Picture):
            yield f"{block.name}.svg", rendered(block, LIGHT, "svg")
            yield f"{block.name}-dark.svg", rendered(block, DARK, "svg")
            yield f"{block.name}.png", rendered(block, LIGHT, "png")
