"""Passes the output of a job on. Output that can't be delivered is lost, and ends nothing.

If mpirun wrote to a full disk or to a pipe that nobody reads any more, it would end the whole job.
"""

import contextlib
import os
import select
import subprocess
import threading
from typing import Any, BinaryIO

_STDOUT, _STDERR = 1, 2
_CHUNK_BYTES = 65536


class Relay:
    """Threads that copy the stdout and stderr of a process to those of the launcher."""

    def __init__(self, process: "subprocess.Popen[Any]") -> None:
        """process: started with the streams of `pipes`."""
        copied = [(process.stdout, _STDOUT), (process.stderr, _STDERR)]
        self._threads = [
            threading.Thread(target=_copy, args=(source, target), name="relay", daemon=True)
            for source, target in copied
            if source is not None
        ]
        for thread in self._threads:
            thread.start()

    def finish(self, seconds: float | None = None) -> None:
        """Wait until all output has been passed on, or for so many seconds."""
        for thread in self._threads:
            thread.join(seconds)


def pipes() -> dict[str, int]:
    """The streams of a process whose output is relayed. Where the launcher's two are one file, the order is kept."""
    same = os.path.sameopenfile(_STDOUT, _STDERR)
    return {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT if same else subprocess.PIPE}


def _copy(source: BinaryIO, target: int) -> None:
    with source:
        while data := os.read(source.fileno(), _CHUNK_BYTES):
            with contextlib.suppress(OSError):
                _write(target, data)


def _write(target: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(target, data) :]
        except BlockingIOError:  # whoever shares this stream made it so: wait until there is room
            select.select([], [target], [])
