"""Runs commands on a terminal."""

import os
import pty
import subprocess
from pathlib import Path


def on_terminal(command: list[str], folder: Path, **env: str) -> str:
    """What a command that ends well writes to a terminal."""
    outside, inside = pty.openpty()
    settings = {**os.environ, "TERM": "xterm", **env}
    with subprocess.Popen(command, cwd=folder, stdout=inside, stderr=inside, env=settings) as job:
        os.close(inside)
        written = b""
        while True:
            try:
                piece = os.read(outside, 65536)
            except OSError:  # how Linux says that the last writer has gone
                break
            written += piece
        assert job.wait(timeout=60) == 0, written
    os.close(outside)
    return written.decode()
