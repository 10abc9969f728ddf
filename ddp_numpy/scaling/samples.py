"""The samples of a sweep on disk: each launch is a line of JSON, and a row of a CSV table."""

import csv
import io
import json
import math
import os
import statistics
from pathlib import Path
from typing import Any, NamedTuple, get_args

from ddp_numpy.base import schema
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, open_regular
from ddp_numpy.scaling.plan import Kind, Point
from ddp_numpy.scaling.statistics import percentile

LINES, TABLE = "samples.jsonl", "samples.csv"
_VERSION = 4
_LARGEST_BYTES = 2**32
_SECONDS = [schema.Real(-math.inf, math.inf)]
_OF_RANKS = dict.fromkeys(("seconds", "computing", "update", "waiting", "moving"), _SECONDS)
_PARTS: schema.Schema = {
    **_OF_RANKS,
    "met": _OF_RANKS,
    "slowest": schema.Real(0, math.inf),
    "noise": [schema.Real(0, math.inf)],
    "by_rank": [[schema.Real(0, math.inf)]],
    "meeting": schema.Real(0, math.inf),
    "rows": [schema.Whole()],
    "steps": schema.Whole(1),
    "calls": schema.Whole(),
    "impossible": schema.Whole(),
    "price": [schema.Real(0, math.inf)],
    "clock_error": schema.Real(0, math.inf),
    "clock_drift": schema.Real(0, math.inf),
}
_LINE: schema.Schema = {
    "version": schema.Whole(_VERSION, _VERSION),
    "repetition": schema.Whole(0),
    "ranks": schema.Whole(1),
    "batch_size": schema.Whole(1),
    "kind": schema.OneOf(*get_args(Kind)),
    "step_seconds": [schema.Real(0, math.inf)],
    "parts": ({...: object}, None),
    "facts": {
        "hosts": [str],
        "ranks_on": [{"host": str, "cpus": [schema.Whole()]}],
        "time": str,
        "rows": schema.Whole(1),
        "summed_bytes": schema.Whole(),
        "gathered_bytes": schema.Whole(),
        "sum_seconds?": [{"bytes": schema.Whole(1), "seconds": schema.Real(0, math.inf)}],
        ...: object,
    },
}


class Sample(NamedTuple):
    """What one launch has measured."""

    repetition: int
    point: Point
    step_seconds: list[float]
    """How long each step took, as rank 0 saw it."""
    parts: dict[str, Any] | None
    """Where the time of a step goes, if that was recorded: see parts.py. Of processes beside each other, `seconds`."""
    facts: dict[str, Any]
    """Where and how, and what else: see job.py."""

    @property
    def seconds(self) -> float:
        """Of a step: the time of all steps, divided by their number."""
        return sum(self.step_seconds) / len(self.step_seconds)


class Samples:
    """The samples of a folder. Each is on the disk before the next is measured."""

    def __init__(self, folder: Path) -> None:
        """Raises InputError for a file that is damaged. A last line that was cut off is in `torn`, and not counted."""
        self._folder = folder
        self.all, self.torn = _read(folder / LINES) if (folder / LINES).exists() else ([], b"")

    def add(self, sample: Sample) -> None:
        """Append a sample. Raises InputError if it can't be written."""
        repetition, point, step_seconds, parts, facts = sample
        line = {
            "version": _VERSION,
            "repetition": repetition,
            "ranks": point.ranks,
            "batch_size": point.batch_size,
            "kind": point.kind,
            "step_seconds": step_seconds,
            "parts": parts,
            "facts": facts,
        }
        try:
            with open(self._folder / LINES, "ab") as file:
                file.truncate(file.seek(0, os.SEEK_END) - len(self.torn))
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            self.torn = b""
            self.all.append(sample)
            with atomic_write(self._folder / TABLE) as table:
                table.write(_table(self.all).encode())
        except OSError as error:
            raise InputError(f"--out {self._folder}: can't write: {error.strerror or error}") from error


def _read(path: Path) -> tuple[list[Sample], bytes]:
    """The samples of a file, and what stands behind its last line end."""
    try:
        with open_regular(path) as file:
            data = file.read(_LARGEST_BYTES)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    *lines, torn = data.split(b"\n")
    found = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            schema.check(values, _LINE, "a sample")
            _check_parts(values)
        except (ValueError, RecursionError, InputError) as error:
            why = str(error) if isinstance(error, InputError) else "it is no JSON"
            raise InputError(f"{path}, line {number}: no sample of this version: {why}; move the file away") from None
        point = Point(values["ranks"], values["batch_size"], values["kind"])
        found.append(Sample(values["repetition"], point, values["step_seconds"], values["parts"], values["facts"]))
    return found, torn


def _check_parts(values: dict[str, Any]) -> None:
    """Raise InputError unless there are steps, and what is noted of each rank is there for each."""
    parts, ranks = values["parts"], values["ranks"]
    if not values["step_seconds"]:
        raise InputError("it has no steps")
    of_ranks = [values["facts"]["ranks_on"]]
    if parts is not None:
        beside = values["kind"] == "beside"
        schema.check(parts, {"seconds": _SECONDS} if beside else _PARTS, "a sample.parts")
        of_ranks += [parts["seconds"]] if beside else [parts["rows"], *(parts[name] for name in _OF_RANKS)]
        of_ranks += [] if beside else parts["met"].values()
    if any(len(each) != ranks for each in of_ranks):
        raise InputError(f"not all is there of its {ranks} ranks")


def _table(samples: list[Sample]) -> str:
    """The same for spreadsheets: a row of each launch, without its single steps."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(
        ("repetition", "ranks", "kind", "batch_size", "hosts", "steps", "seconds_per_step", "median_step_seconds",
         "p95_step_seconds", "images_per_second", "seconds_to_loss", "time")
    )  # fmt: skip
    for sample in samples:
        repetition, point, step_seconds, _, facts = sample
        figures = (
            sample.seconds,
            statistics.median(step_seconds),
            percentile(step_seconds, 0.95),
            point.batch_size / sample.seconds,
        )
        writer.writerow(
            (repetition, point.ranks, point.kind, point.batch_size, len(facts["hosts"]), len(step_seconds),
             *(f"{figure:.9g}" for figure in figures), facts.get("seconds_to_loss", ""), facts["time"])
        )  # fmt: skip
    return text.getvalue()
