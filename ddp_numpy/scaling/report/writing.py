"""Puts a report together, and writes its files."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ddp_numpy.base.files import atomic_write, writing
from ddp_numpy.pages.document import Block, Heading, Paragraph, Table, as_html, as_markdown, files
from ddp_numpy.pages.pictures import Picture
from ddp_numpy.scaling.report.figures import pictures
from ddp_numpy.scaling.report.findings import Findings
from ddp_numpy.scaling.report.proposal import Proposal
from ddp_numpy.scaling.table import (
    cells_of_factors,
    cells_of_predictions,
    cells_of_rows,
    heading,
    note,
    sentences,
    verdict,
)

_SCALES, _PROPOSAL = "How training scales", "Scaling of the program, for a proposal of computing time"


def write(found: Findings, folder: Path, required_efficiency: float) -> Path:
    """Write all files of a report; returns the folder. Raises InputError if they can't be written."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in _files(found, required_efficiency):
            with atomic_write(folder / name) as file:
                file.write(data)
    return folder


def _files(found: Findings, required_efficiency: float) -> Iterator[tuple[str, bytes]]:
    report, proposal = list(_report(found)), Proposal(found, required_efficiency).blocks()
    for name, title, blocks in (("report", _SCALES, report), ("proposal", _PROPOSAL, proposal)):
        yield f"{name}.html", as_html(title, blocks).encode()
        yield f"{name}.md", as_markdown(title, blocks).encode()
    yield from files(report)
    yield "report.csv", found.table().encode()
    yield "report.json", json.dumps(found.values(), indent=1).encode() + b"\n"


def _report(found: Findings) -> Iterator[Block]:
    shown = {picture.name: picture for picture in pictures(found)}
    facts = found.facts
    yield Paragraph(
        f"Up to {found.sweep.ranks[-1]} ranks on {len(facts['hosts'])} host{'s' * (len(facts['hosts']) > 1)}, "
        f"{facts['cpu']}, {facts['mpi']}, {facts['blas']}; {found.sweep.repeat} launches of each point, "
        f"the last on {facts['time'][:10]}."
    )
    yield shown["scaling"]
    for own in found.of_modes:
        yield Heading(heading(found.sweep, own.mode).capitalize())
        yield _table(cells_of_rows(own.rows, found.plan["target loss"]))
        yield Paragraph(note(own.rows))
    if "factors" in shown:
        yield Heading("Where efficiency goes")
        yield shown["factors"]
    for own in found.of_modes:
        if own.explained:
            yield Paragraph(f"{own.mode.capitalize()} scaling: efficiency is the product of")
            yield _table(cells_of_factors(own.explained))
            yield from (Paragraph(" ".join(sentences(one, own.adviser))) for one in own.explained)
    yield from _rest(shown, found)


def _rest(shown: dict[str, Picture], found: Findings) -> Iterator[Block]:
    if "ranks" in shown:
        yield Heading("Rank by rank")
        yield shown["ranks"]
    if "sums" in shown:
        yield Heading("Sums over all ranks")
        yield shown["sums"]
    if "predictions" in shown:
        yield Heading("Predicted and measured")
        yield shown["predictions"]
        yield _table(cells_of_predictions(found.compared))
        yield Paragraph(verdict(found.compared))
    yield Heading("How it was measured")
    yield _table([["", ""], *([name, str(value)] for name, value in _circumstances(found))])


def _circumstances(found: Findings) -> Iterator[tuple[str, str]]:
    facts = found.facts
    yield "command of a rank", facts["command"]
    yield "versions", ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    yield "kernel", facts["kernel"]
    yield "exchange", facts["exchange"]
    yield from ((f"rank {rank}", f"{place['host']}, cores {_cores(place['cpus'])}")
                for rank, place in enumerate(facts["ranks_on"]))  # fmt: skip


def _cores(cpus: Sequence[int]) -> str:
    """Numbers of cores, runs of them in short: 0-3, 8."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][-1] + 1:
            runs[-1].append(cpu)
        else:
            runs.append([cpu])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _table(cells: Sequence[Sequence[str]]) -> Table:
    return Table(cells[0], cells[1:])
