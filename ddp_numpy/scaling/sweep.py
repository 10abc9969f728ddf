"""Launches the points of a sweep, each several times, and keeps what they measure."""

import contextlib
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

import ddp_numpy
from ddp_numpy.base.errors import InputError, JobError
from ddp_numpy.runs.circumstances import command
from ddp_numpy.scaling.plan import Point, Sweep
from ddp_numpy.scaling.samples import Sample

# By its path: a launch.py in the working folder can't take its place.
_LAUNCHER = Path(ddp_numpy.__file__).parents[1] / "launch" / "__main__.py"


class LaunchFailedError(JobError):
    """A launch of the sweep ended in an error."""


class Launcher(NamedTuple):
    """How the ranks of a point are started."""

    options: tuple[str, ...]
    """Of `launch run`: hosts and others."""
    settings: dict[str, Any]
    """The options of training, for all points alike but for the batch."""
    job_options: tuple[str, ...]
    """Other options of job.py."""

    def words(self, point: Point, *more: str) -> list[str]:
        """The command that launches a point. more: options of `launch run`."""
        words = [sys.executable, str(_LAUNCHER), "run", "-n", str(point.ranks), *self.options, *more]
        settings = json.dumps(self.settings | {"batch-size": point.process_batch_size})
        kind = [] if point.kind == "ranks" else [f"--{point.kind}"]
        return [*words, "-m", "ddp_numpy.scaling.job", "--", "--settings", settings, *self.job_options, *kind]

    def check(self, sweep: Sweep) -> None:
        """Raise InputError if the launcher refuses a point, such as one with more ranks than the hosts have slots."""
        for point in sweep.points():
            ended = _run(self.words(point, "--dry-run"))
            if ended.returncode:
                raise InputError(f"{point}: {_said(ended.stderr)}")

    def measure(self, repetition: int, point: Point) -> Sample:
        """Launch a point. Raises LaunchFailedError unless it ends well, and InputError if the settings can't be."""
        found: dict[str, Any] = json.loads(self._launch(point).splitlines()[-1])
        facts = found["facts"] | {"commit": commit(), "command": command()}
        return Sample(repetition, point, found["step_seconds"], found["parts"], facts)

    def trace(self, point: Point, path: Path) -> None:
        """Launch it to write a trace of some steps: see trace.py. Raises as `measure` does."""
        self._launch(point, "--trace", str(path.resolve()))

    def _launch(self, point: Point, *more: str) -> str:
        """What a launch prints. more: options of job.py."""
        ended = _run([*self.words(point), *more])
        if ended.returncode == InputError.exit_status:
            raise InputError(f"{point}: {_said(ended.stderr)}")
        if ended.returncode:
            raise LaunchFailedError(f"{point}: the launch ended with status {ended.returncode}: {_said(ended.stderr)}")
        return ended.stdout


def commit() -> str | None:
    """Which commit of the package this is, and whether files were changed since; None if that is not known."""
    folder, said = str(_LAUNCHER.parents[1]), []
    for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        with contextlib.suppress(OSError):
            ended = _run(["git", "-C", folder, *words])
            said += [ended.stdout.strip()] if ended.returncode == 0 else []
    return said[0] + (", changed" if said[1] else "") if len(said) == 2 else None


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """While the block lasts, SIGTERM and SIGHUP end this process as an exception does, and so what it has launched."""

    def end(number: int, frame: FrameType | None) -> None:
        raise click.exceptions.Exit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(words: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. If this process is told to end, so is the command; the launcher then ends all ranks."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate()
        except BaseException:
            process.terminate()
            process.communicate()
            raise
    return subprocess.CompletedProcess(words, process.returncode, out, err)


def _said(text: str) -> str:
    """What a launch said was wrong."""
    lines = [line for line in text.splitlines() if line.strip()] or ["it said nothing"]
    return next((line for line in lines if line.startswith("error: ")), lines[-1]).removeprefix("error: ")
