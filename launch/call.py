"""Starts the launcher from Python and hands over its lines, as they come: for notebooks and scripts."""

import contextlib
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from launch.job import Process

_LAST_LINES = 30  # of a job, which hold the traceback of a rank
_ENDING_SECONDS = 15.0  # The launcher needs less: it kills what is left of its job after 3 s.


class JobFailedError(Exception):
    """The launcher ended with another status than 0."""

    def __init__(self, status: int, last: Iterable[str]) -> None:
        """last: the lines that it printed last. The message has the one that says `error:`, or else all of them."""
        lines = list(last)
        reason = next((line for line in reversed(lines) if line.startswith("error:")), "\n".join(lines))
        super().__init__(f"the job ended with status {status}: {reason}")
        self.status = status


@contextlib.contextmanager
def start(*words: object) -> Iterator[Iterator[str]]:
    """Start a job. As a context, it is the iterator of the lines that the job prints.

    words: what stands on the command line behind `python -m launch`. Output and errors come as one stream.

        with start("run", "-n", 4, "--epochs", 5, "--out", "runs/four") as lines:
            for line in lines:
                print(line)

    After the last line the iterator raises JobFailedError, unless the status of the job is 0. If the block is left
    before that, by break, by an exception or by Ctrl-C, the job is ended. No process of it on this host outlives the
    block. Raises LaunchError if no process can be started.
    """
    # The launcher is started by its path, so that a launch.py in the working folder can't take its place. Jupyter sets
    # FORCE_COLOR for what writes to a notebook; here it would bring a progress bar for terminals into the lines.
    launcher = [sys.executable, str(Path(__file__).with_name("__main__.py"))]
    command = ["env", "-u", "FORCE_COLOR", *launcher, *map(str, words)]
    with Process(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as started:
        process = started.process
        assert process.stdout is not None
        with process.stdout as output:
            try:
                yield _lines(process, output)
            finally:
                _end(process)


def _lines(launcher: "subprocess.Popen[bytes]", output: IO[bytes]) -> Iterator[str]:
    last: deque[str] = deque(maxlen=_LAST_LINES)
    for read in output:
        last.append(read.decode(errors="replace").rstrip("\n"))
        yield last[-1]
    if status := launcher.wait():
        raise JobFailedError(status, last)


def _end(launcher: "subprocess.Popen[bytes]") -> None:
    """Ask the launcher to end its job, and wait until it has. A second Ctrl-C does not stop this half-way."""
    launcher.terminate()
    deadline = time.monotonic() + _ENDING_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(KeyboardInterrupt):
            if launcher.poll() is not None:
                return
            time.sleep(0.02)
