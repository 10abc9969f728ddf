"""Starts a job, watches it, and ends all its processes, for whatever reason it ends."""

import contextlib
import ctypes
import dataclasses
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from launch.lifeline import Lifelines

TIMED_OUT = 124  # the status that timeout(1) returns
_MARK = "DDP_NUMPY_JOB"  # in the environment of every process that a job starts on this host
_GRACE_SECONDS = 3.0  # mpirun has this long to end its ranks; then the launcher kills what is left
_PR_SET_PDEATHSIG = 1
_SHARED_MEMORY = Path("/dev/shm")
_MPI_FILES = ("mpich_shm_", "mpich_shar_tmp", "vader_segment.", "sm_segment.", "osc_rdma.", "ucx_shm_")


class _Signalled(Exception):  # noqa: N818
    """A signal that ends the job has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Process:
    """mpirun and every process that it started on this host. As a context: no process outlives the block."""

    def __init__(self, command: Sequence[str], **streams: Any) -> None:
        """streams: stdout and stderr, as for subprocess.Popen. By default they are those of the launcher."""
        self._mark = uuid.uuid4().hex
        self._shared_memory_before = _shared_memory()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, _MARK: self._mark},
            stdin=subprocess.DEVNULL,
            # With this, Ctrl-C on the terminal reaches only the launcher, and the launcher ends the job in order.
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            **streams,
        )

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask mpirun to end its ranks. After a moment, kill what is left on this host, and return when all is gone."""
        killing = time.monotonic() + _GRACE_SECONDS
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE_SECONDS)
        while (left := self.left()) and time.monotonic() < killing + _GRACE_SECONDS:
            if time.monotonic() > killing:
                for pid in left:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        self.process.wait()
        for path in _shared_memory() - self._shared_memory_before:
            if not _held(path):
                path.unlink(missing_ok=True)

    def left(self) -> list[int]:
        """The processes of this job that still run on this host: those with its mark, which they have inherited."""
        mark, found = f"{_MARK}={self._mark}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a job ended."""

    status: int
    asked: bool = False
    """Whether a signal or the timeout told the launcher to end the job."""
    starter_killed: bool = False
    """Whether a signal killed mpirun itself, and so all ranks."""


def run(command: Sequence[str], timeout: float | None, lifelines: Lifelines) -> Ending:
    """Run a job to its end. Its output goes where the launcher's goes.

    lifelines: the connections on which a rank can say that it is ending the job.

    SIGINT, SIGTERM and SIGHUP end the job; the status is then 128 + the signal, as in a shell. SIGUSR1 and SIGUSR2
    are passed on to the ranks. A job that runs longer than timeout seconds is ended; its status is then TIMED_OUT.
    """
    job = Process(command)
    lifelines.when_ending(job.process.kill)
    with _signals_for(job.process):
        try:
            status = job.process.wait(timeout)
            if lifelines.ending.is_set():
                return Ending(1)
            return Ending(status) if status >= 0 else Ending(128 - status, starter_killed=True)
        except _Signalled as signalled:
            return Ending(128 + signalled.number, asked=True)
        except subprocess.TimeoutExpired:
            return Ending(TIMED_OUT, asked=True)
        finally:
            job.end()


@contextlib.contextmanager
def _signals_for(process: subprocess.Popen[Any]) -> Iterator[None]:
    def end(number: int, _: FrameType | None) -> None:
        for other in ending:  # a second Ctrl-C must not stop the ending half-way
            signal.signal(other, signal.SIG_IGN)
        raise _Signalled(number)

    def forward(number: int, _: FrameType | None) -> None:
        process.send_signal(number)

    ending = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP: the job is to stay
        ending.append(signal.SIGHUP)
    before = {number: signal.signal(number, end) for number in ending}
    before |= {number: signal.signal(number, forward) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shared_memory() -> set[Path]:
    """This user's files in /dev/shm made by MPI libraries, which leave them there if the process is killed."""
    found = set()
    for path in _SHARED_MEMORY.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            if path.name.startswith(_MPI_FILES) and path.stat().st_uid == os.geteuid():
                found.add(path)
    return found


def _held(path: Path) -> bool:
    """Whether any process has the file open or mapped."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # A process that makes such a file opens it, maps it, and then closes it. So look at the open files first
            # and at the maps second: the other way round, the process could map and close the file in between.
            is_open = any(_target(link) == str(path) for link in (folder / "fd").iterdir())
            maps = (folder / "maps").read_text()
            # A large process that was killed has its files open for a while after its memory is gone. Its maps are
            # then empty, so an open file does not count if the maps are empty.
            if str(path) in maps or (is_open and maps):
                return True
    return False


def _target(link: Path) -> str | None:
    """Where a link leads to; None if it is gone, as the process has closed that file since."""
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return None


def _die_with_parent() -> None:
    """Called in the child: if the launcher is killed, Linux ends mpirun by SIGTERM, and mpirun ends all ranks."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
