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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.errors import LaunchError
from launch.lifeline import Lifelines
from launch.messages import tell
from launch.relay import Relay, pipes
from launch.signals import Signalled, Signals

TIMED_OUT = 124  # the status that timeout(1) returns
_MARK = "DDP_NUMPY_JOB"  # in the environment of every process that a job starts on this host
_GRACE_SECONDS = 3.0  # mpirun has this long to end its ranks; then the launcher kills what is left
_PR_SET_PDEATHSIG = 1
_SHARED_MEMORY = Path("/dev/shm")
_MPI_FILES = (
    *("mpich_shm_", "mpich_shar_tmp", "mpich_vci_"),
    *("vader_segment.", "sm_segment.", "osc_rdma.", "ucx_shm_"),
)


class Process:
    """mpirun and every process that it started on this host. As a context: no process outlives the block."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str] | None = None, **streams: Any) -> None:
        """env: variables to add to those of the launcher. streams: stdout and stderr, as for subprocess.Popen.

        Raises LaunchError if the command can't be started.
        """
        self._mark = uuid.uuid4().hex
        self._shared_memory_before = _shared_memory()
        try:
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **(env or {}), _MARK: self._mark},
                stdin=subprocess.DEVNULL,
                # With this, Ctrl-C on the terminal reaches only the launcher, and the launcher ends the job in order.
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
                **streams,
            )
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LaunchError(f"can't start {command[0]}: {reason}") from None

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ask mpirun to end its ranks. After a moment, kill what is left on this host, and return when all is gone.

        A process that waits for a disk or a network file system can't be killed: it is named, and left behind.
        """
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
        if left:
            tell(f"warning: still there though killed: {', '.join(f'process {pid}' for pid in left)}")
        for path in _shared_memory() - self._shared_memory_before:
            if not _held(path):
                path.unlink(missing_ok=True)

    def left(self) -> list[int]:
        """The processes of this job that still run on this host: mpirun, and those with the mark they inherited."""
        mark = f"{_MARK}={self._mark}".encode()
        # While a process exits its environment can't be read any more. Where there is no /proc, mpirun is all we know.
        found = [self.process.pid] if self.process.poll() is None else []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return list(dict.fromkeys(found))


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a job ended."""

    status: int
    asked: bool = False
    """Whether a signal or the timeout told the launcher to end the job."""
    starter_killed: bool = False
    """Whether a signal killed mpirun itself, and so all ranks."""


def run(
    command: Sequence[str], env: Mapping[str, str], timeout: float | None, lifelines: Lifelines, signals: Signals
) -> Ending:
    """Run a job to its end. Its output goes where the launcher's goes.

    env: variables to add to those of mpirun. lifelines: the connections on which a rank can say that it is ending the
    job.

    A signal that ends the launcher ends the job; the status is then 128 + the signal, as in a shell. A job that runs
    longer than timeout seconds is ended; its status is then TIMED_OUT.
    """
    with Process(command, env, **pipes()) as job:
        relay = Relay(job.process)
        lifelines.when_ending(job.process.kill)
        signals.pass_on_to(job.process)
        ending = _wait(job, timeout, lifelines, signals)
    if ending.asked:
        relay.finish(_GRACE_SECONDS)
        return ending
    try:
        with signals.waiting():
            relay.finish()  # when all processes are gone; a pager reads the output as slowly as it likes
    except Signalled as signalled:
        return Ending(128 + signalled.number, asked=True)
    return ending


def _wait(job: Process, timeout: float | None, lifelines: Lifelines, signals: Signals) -> Ending:
    try:
        with signals.waiting():
            status = job.process.wait(timeout)
    except Signalled as signalled:
        return Ending(128 + signalled.number, asked=True)
    except subprocess.TimeoutExpired:
        return Ending(TIMED_OUT, asked=True)
    if lifelines.ending.is_set():
        return Ending(1)
    return Ending(status) if status >= 0 else Ending(128 - status, starter_killed=True)


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
