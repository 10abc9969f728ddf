"""The program that each rank runs: it runs a module, as `python -m` does.

It also marks the module's errors, keeps its output, and lets the launcher see how the rank ends.

    python -m launch.rank RANK_VARIABLE LOG_DIR MODULE [ARGS…]      (LOG_DIR may be empty)

Lines on stderr get the rank and the host in front. Only `error: …` does not: such a line speaks for the whole job.
"""

import os
import runpy
import socket
import sys
from pathlib import Path
from typing import Any, TextIO

from launch import lifeline


class Stream:
    """A text stream that marks its lines and keeps a copy in a log. Each whole line is written in one piece."""

    def __init__(self, stream: TextIO, log: TextIO | None, prefix: str = "") -> None:
        self._stream, self._log, self._prefix = stream, log, prefix
        self._line = ""

    def write(self, text: str) -> int:
        """Take text. Whole lines are written now; the rest waits for its line end or for a flush."""
        if self._log is not None:
            self._log.write(text)
        if not self._prefix:
            return self._stream.write(text)
        *lines, self._line = (self._line + text).split("\n")
        if lines:
            self._stream.write("".join(f"{self._marked(line)}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        """Write all that is waiting, even half a line."""
        if self._line:
            self._stream.write(self._marked(self._line))
            self._line = ""
        self._stream.flush()
        if self._log is not None:
            self._log.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _marked(self, line: str) -> str:
        return line if not line or line.startswith("error: ") else self._prefix + line


def main() -> None:
    """Set up the streams, then run the module in this process."""
    rank_variable, log_dir, module, *arguments = sys.argv[1:]
    rank = os.environ.get(rank_variable, "?")
    log: TextIO | None = None
    if log_dir:
        Path(log_dir).mkdir(parents=True, exist_ok=True)
        log = open(Path(log_dir) / f"rank-{rank}.log", "w", encoding="utf-8", buffering=1)  # noqa: SIM115
    streams: Any = (Stream(sys.stdout, log), Stream(sys.stderr, log, f"rank {rank} on {socket.gethostname()}: "))
    sys.stdout, sys.stderr = streams
    sys.argv = [module, *arguments]
    with lifeline.held(rank):
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
