"""Runs commands on a terminal."""

import os
import pty
import subprocess
import threading
from pathlib import Path

from jobs import JOB_SECONDS


def on_terminal(command: list[str], folder: Path, **env: str) -> str:
    """What a command that ends well writes to a terminal. One that takes too long is killed."""
    outside, inside = pty.openpty()
    settings = {**os.environ, "TERM": "xterm", **env}
    with subprocess.Popen(command, cwd=folder, stdout=inside, stderr=inside, env=settings) as job:
        too_long = threading.Timer(JOB_SECONDS, job.kill)
        too_long.start()
        os.close(inside)
        written = b""
        while True:
            try:
                piece = os.read(outside, 65536)
            except OSError:  # how Linux says that the last writer has gone
                break
            written += piece
        status = job.wait()
        too_long.cancel()
        assert status == 0, written
    os.close(outside)
    return written.decode()
