"""Finds out which ranks the job has, and ends all of them when one of them fails."""

import atexit
import functools
import importlib.util
import os
import re
import socket
import sys
import threading
import time
import traceback
import warnings
from types import TracebackType
from typing import Literal, NamedTuple, NoReturn

from ddp_numpy.base.errors import InputError, JobError
from ddp_numpy.base.messages import tell, tell_lines
from ddp_numpy.comm.communicator import Communicator, SingleProcess
from ddp_numpy.comm.watchdog import Watchdog
from ddp_numpy.comm.whereabouts import Whereabouts

# Open MPI ends a job when the first of its processes exits with an error. Rank 0, which prints the error, should be
# that first process. While the ranks are not connected yet, the others wait for this long before they exit.
_SPEAK_SECONDS = 1.0

Sums = Literal["auto", "node-shared", "allreduce"]

# The environment variables that launchers set for their processes: (launcher, number of processes, this process's
# rank). An mpirun can run inside a Slurm job, so the mpiruns come before Slurm. SLURM_NTASKS can't be used: in a batch
# script it is set too, although the script is a single process.
_LAUNCHERS = (
    ("Open MPI's mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
    ("mpirun", "PMI_SIZE", "PMI_RANK"),
    ("MVAPICH's mpirun", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
    ("srun", "SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),
)
_NUMBER = re.compile(r"[0-9]{1,9}")
_OPEN_MPI, _MPIRUN = _LAUNCHERS[0][0], _LAUNCHERS[1][0]
_REMEDY = (
    "mpirun and mpi4py must belong to the same MPI: start with the mpirun beside this Python "
    f"({os.path.dirname(sys.executable)}) or with srun --mpi=pmi2, or install mpi4py for the MPI of that mpirun"
)


def world(sums: Sums = "auto", stall_timeout: float | None = None) -> Communicator:
    """The communicator of all processes of this job: those that mpirun started together, or this process alone.

    sums: how gradients are added up. "node-shared": in memory that the ranks of a node share; "allreduce": by the MPI
    library; "auto": node-shared if that is possible, else allreduce.

    stall_timeout: seconds after which the job ends if a rank is silent, or lets others wait in training; what rank 0
    gives counts for all ranks. By default as it was, at first 300.

    A single process needs neither mpi4py nor an MPI library. Under MPI, an uncaught exception on any rank, in any
    thread, ends all ranks. So does a rank whose program ends, with sys.exit for example, while others wait for it.
    Collective at its first call. Raises InputError if a launcher started several processes that can't see each other.
    """
    comm = _communicator(sums)
    watchdog = _watch() if comm.size > 1 else None
    if stall_timeout is not None:
        if not stall_timeout > 0:
            comm.agree(InputError(f"stall timeout {stall_timeout:g}: must be above 0"))
        if watchdog is not None:
            watchdog.set_timeout(stall_timeout)
    return comm


@functools.cache
def _communicator(sums: Sums) -> Communicator:
    launched = _launched()
    if launched.mistake:
        raise InputError(launched.mistake)
    library, comm = _connect(launched, sums)
    if comm is not None and comm.size > 1:
        return comm
    if launched.size > 1:
        raise InputError(
            f"{launched.by} started {launched.size} processes, but each of them is alone ({library}): {_REMEDY}"
        )
    return SingleProcess()


@functools.cache
def _watch() -> Watchdog:
    """From now on, let nothing that happens to this rank leave the others waiting. Collective."""
    from ddp_numpy.comm.mpi import MPICommunicator, gate

    comm = MPICommunicator()
    sys.excepthook = functools.partial(_excepthook, comm)
    threading.excepthook = functools.partial(_thread_excepthook, comm)
    sys.exit = functools.partial(_exit, comm.here)
    watchdog = Watchdog(comm, gate())
    atexit.register(watchdog.leave)  # before mpi4py ends MPI
    return watchdog


def is_reporter(comm: Communicator | None) -> bool:
    """True on rank 0, which prints for the whole job. comm: None while the ranks are not connected yet."""
    return (_launched().rank if comm is None else comm.rank) == 0


def is_launched() -> bool:
    """True if an MPI launcher started this process, alone or with others."""
    return _launched().by != ""


def end_job(error: BaseException, comm: Communicator | None) -> int:
    """Print what ended the job, and return the exit status. If only this rank knows of the error, end all ranks."""
    if isinstance(error, JobError):
        if comm is None or comm.size == 1 or error.agreed:
            if is_reporter(comm):
                tell(f"error: {error}")
            elif comm is None:
                time.sleep(_SPEAK_SECONDS)
            return error.exit_status
        tell(f"error: {_where(comm)}: {error}")
        comm.abort(error.exit_status)
    status = 1
    if isinstance(error, KeyboardInterrupt):
        status = 130  # 128 + SIGINT, as shells report it
    else:
        text = "".join(traceback.format_exception(error))
        heading = "" if comm is None or comm.size == 1 else f"{_where(comm)} failed:\n"
        tell_lines(f"{heading}{text}")
    if comm is not None and comm.size > 1:
        comm.abort(status)
    return status


class _Launched(NamedTuple):
    """What a launcher has told this process in its environment."""

    by: str = ""
    """The launcher's name; empty if there is none."""
    size: int = 1
    """How many processes it started."""
    rank: int = 0
    mistake: str = ""
    """What is wrong with it, if anything is."""


def _launched() -> _Launched:
    for name, *variables in _LAUNCHERS:
        size, rank = (os.environ.get(variable, default) for variable, default in zip(variables, ("", "0"), strict=True))
        if not size:
            continue
        if _NUMBER.fullmatch(size) and _NUMBER.fullmatch(rank) and int(rank) < int(size):
            return _Launched(name, int(size), int(rank))
        said = f"{variables[0]}={size} and {variables[1]}={rank}"
        return _Launched(name, mistake=f"{said} in the environment is no number of processes and a rank; unset them")
    return _Launched()


def _connect(launched: _Launched, sums: Sums) -> tuple[str, Communicator | None]:
    """Start MPI if it is installed. Returns the library's name, or why MPI can't be used, and the communicator."""
    if importlib.util.find_spec("mpi4py") is None:
        return "mpi4py is not installed", None
    with warnings.catch_warnings():
        # mpi4py only suspects that mpirun belongs to another MPI. world() finds out, and its error tells what to do.
        warnings.filterwarnings("ignore", message="suspicious MPI execution environment")
        try:
            from ddp_numpy.comm.mpi import MPICommunicator, library_version
        except (ImportError, RuntimeError):
            return "mpi4py finds no MPI library", None
        library = library_version()
        if launched.size > 1 and not _fits(launched.by, library):
            raise InputError(f"{launched.by} started {launched.size} processes, but mpi4py uses {library}: {_REMEDY}")
        if sums == "allreduce":
            return library, MPICommunicator()
        from ddp_numpy.comm.node_shared import NodeSharedCommunicator

        return library, NodeSharedCommunicator(required=sums == "node-shared")


def _fits(launcher: str, library: str) -> bool:
    """False if MPI is sure to fail at its start. Asked before the start: the libraries' own messages tell no remedy."""
    is_open_mpi = library.startswith("Open MPI")
    if launcher == _OPEN_MPI:
        return is_open_mpi
    # MPI_LOCALNRANKS is set by Hydra, the mpirun of MPICH and Intel. srun sets PMI_SIZE too, but not this variable, and
    # srun can start any library.
    return not (launcher == _MPIRUN and "MPI_LOCALNRANKS" in os.environ and is_open_mpi)


def _where(comm: Communicator) -> str:
    return f"rank {comm.rank} on {socket.gethostname()}"


def _excepthook(
    comm: Communicator, kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Ends all ranks at an uncaught exception on this rank.

    Otherwise this rank would wait for the others in MPI_Finalize, while they wait for this rank in a collective.
    """
    sys.exit(end_job(error, comm))


def _thread_excepthook(comm: Communicator, failure: threading.ExceptHookArgs) -> None:
    """The same for an exception that ends a thread. As in Python, SystemExit ends the thread alone."""
    if failure.exc_value is not None and not isinstance(failure.exc_value, SystemExit):
        comm.abort(end_job(failure.exc_value, comm))


def _exit(here: Whereabouts, status: object = None) -> NoReturn:
    """In place of sys.exit: it notes the status, which Python doesn't tell to what runs at the exit."""
    here.exit_status = status & 0xFF if isinstance(status, int) else int(status is not None)
    raise SystemExit(status)
