"""Ranks that die, stop or hang: the job ends, says which rank it was, and leaves nothing behind."""

import re
import socket
import time
from pathlib import Path

import pytest
from jobs import run_job

HERE = Path(__file__).parent
HOST = socket.gethostname()
OPTIONS = ("--epochs", "100000", "--quiet", "--out", "run", "--stall-timeout", "3")
SECONDS = 20  # from the fault to the end, at most, of a loaded machine


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize(
    ("name", "words"),
    [("SIGSTOP", r"error: rank {} on {} gave no sign of life for 3 s"), ("SIGKILL", r"(?i){}")],
)
def test_a_stopped_or_killed_rank(name: str, words: str, rank: int, tmp_path: Path) -> None:
    start = time.monotonic()
    job = run_job(3, HERE / "stop_at.py", "50", str(rank), name, *OPTIONS, cwd=tmp_path)
    assert job.status != 0
    print(job.err, job.out, time.monotonic() - start)
    assert time.monotonic() - start < SECONDS
    assert re.search(words.format(rank, HOST), job.err)
