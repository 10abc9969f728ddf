"""The page that an application for computing time asks for: how the program scales, and the job that would run."""

import subprocess
import sys
from typing import Any, NamedTuple

from ddp_numpy.base.errors import InputError
from ddp_numpy.pages.document import Block, Heading, Listing, Paragraph, Table
from ddp_numpy.scaling.plan import Mode
from ddp_numpy.scaling.report.findings import Findings, OfMode
from ddp_numpy.scaling.results import Row
from ddp_numpy.scaling.table import time_of
from ddp_numpy.settings import Settings

_FEWEST_COUNTS = 3
_SPARE, _LEAST_MINUTES = 1.5, 10  # the job's time limit: so many times as long as training takes, and at least


class Judged(NamedTuple):
    """A number of nodes."""

    nodes: int
    ranks: int
    wall_seconds: float
    """Of all epochs, validation left aside."""
    speedup: float
    """Over the smallest number."""
    efficiency: float
    """p_b T_b / (p T), with the smallest number as b."""
    passes: bool


class Proposal:
    """What is asked for, and whether it is shown."""

    def __init__(self, found: Findings, required: float) -> None:
        """required: the efficiency. Raises InputError if no two numbers of ranks were measured."""
        self._found, self._required = found, required
        own = next((each for each in found.of_modes if each.mode == "strong"), found.of_modes[0])
        self._mode: Mode = own.mode
        rows = _by_nodes(own)
        if len(rows) < 2:
            raise InputError("a proposal needs two numbers of ranks at least; measure more with --ranks")
        self.judged = [self._judge(row, rows[0]) for row in rows]
        self.counts = len({row.hosts for row in rows})
        """Of nodes, that differ."""

    def _judge(self, row: Row, base: Row) -> Judged:
        steps = self._found.plan["training"]["epochs"] * -(-self._found.facts["rows"] // row.point.batch_size)
        speedup = row.images_per_second / base.images_per_second
        efficiency = speedup * base.point.ranks / row.point.ranks
        passes = efficiency >= self._required
        return Judged(row.hosts, row.point.ranks, steps * row.seconds.value, speedup, efficiency, passes)

    def largest(self) -> Judged:
        """The largest job that passes; the smallest always does."""
        return [one for one in self.judged if one.passes][-1]

    def blocks(self) -> list[Block]:
        """The page."""
        found, largest, training = self._found, self.largest(), self._found.plan["training"]
        network = f"mlp {training['hidden']}" if training["model"] == "mlp" else training["model"]
        passed = self.counts >= _FEWEST_COUNTS and all(one.passes for one in self.judged)
        cells = [
            [
                str(one.nodes), str(one.ranks), time_of(one.wall_seconds), f"{one.speedup:.2f}",
                f"{one.efficiency:.1%}", "pass" if one.passes else "fail",
            ]
            for one in self.judged
        ]  # fmt: skip
        same = "the same global batch" if self._mode == "strong" else "as many rows for each rank"
        facts = found.facts
        return [
            Paragraph(
                f"ddp_numpy trains a neural network ({network}) data-parallel with MPI, on {facts['rows']:,} rows for "
                f"{training['epochs']} epochs. The input is identical for all numbers of nodes: {same}, "
                f"{found.sweep.batch_size} rows. CPU: {facts['cpu']}; {facts['mpi']}."
            ),
            Heading(f"{self._mode.capitalize()} scaling; {self._required:.0%} efficiency is required"),
            Table(["nodes", "ranks", "wall time", "speedup", "efficiency", "verdict"], cells),
            Paragraph(
                "Wall time: all epochs without validation, from the median of several launches. Efficiency: "
                "p_b T_b / (p_N T_N), with p the ranks, T the wall time and b the first line."
            ),
            Paragraph(
                f"Numbers of nodes that were measured: {self.counts} of at least {_FEWEST_COUNTS}, "
                f"{'pass' if self.counts >= _FEWEST_COUNTS else 'fail'}."
            ),
            Paragraph(
                f"All in all: {'pass' if passed else 'fail'}. The largest job with the efficiency that is required "
                f"has {_plural(largest.ranks, 'rank')} on {_plural(largest.nodes, 'node')}."
            ),
            Heading("The job"),
            Listing(_script(largest, found)),
        ]


def _plural(count: int, of: str) -> str:
    return f"{count} {of}{'s' * (count != 1)}"


def _by_nodes(own: OfMode) -> list[Row]:
    """One row for each number of nodes, that with the most ranks; for each number of ranks if all are on one node."""
    rows = [row for row in own.rows if row.point.kind == "ranks"]
    if max(row.hosts for row in rows) == 1:
        return rows
    return list({row.hosts: row for row in rows}.values())


def _words(name: str, value: Any) -> list[str]:
    """An option of training, as a command has it."""
    if value is True:
        return [f"--{name}"]
    return [f"--{name}", *map(str, value)] if isinstance(value, list) else [f"--{name}={value}"]


def _script(job: Judged, found: Findings) -> str:
    """As `python -m launch sbatch` writes it, without the options that have their defaults."""
    defaults, training = Settings().recorded(), found.plan["training"]
    words = [word for name, value in training.items() if defaults.get(name) != value for word in _words(name, value)]
    minutes = max(_LEAST_MINUTES, round(job.wall_seconds * _SPARE / 60))
    command = [
        sys.executable, "-m", "launch", "sbatch", "--nodes", str(job.nodes), "--ntasks-per-node",
        str(-(-job.ranks // job.nodes)), "--time", f"{minutes // 60}:{minutes % 60:02}:00", *words,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise InputError(f"no job script can be written: {done.stderr.strip()}")
    return done.stdout
