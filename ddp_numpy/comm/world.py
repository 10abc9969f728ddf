"""Finds out which ranks the job has, and ends all of them when one of them fails."""

import functools
import importlib.util
import os
import socket
import sys
import time
import traceback
import warnings
from types import TracebackType
from typing import Literal

from ddp_numpy.base.errors import InputError, JobError
from ddp_numpy.base.messages import tell
from ddp_numpy.comm.communicator import Communicator, SingleProcess

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
_OPEN_MPI, _MPIRUN = _LAUNCHERS[0][0], _LAUNCHERS[1][0]
_REMEDY = (
    "mpirun and mpi4py must belong to the same MPI: start with the mpirun beside this Python "
    f"({os.path.dirname(sys.executable)}) or with srun --mpi=pmi2, or install mpi4py for the MPI of that mpirun"
)


@functools.cache
def world(sums: Sums = "auto") -> Communicator:
    """The communicator of all processes of this job: those that mpirun started together, or this process alone.

    sums: how gradients are added up. "node-shared": in memory that the ranks of a node share; "allreduce": by the MPI
    library; "auto": node-shared if that is possible, else allreduce.

    A single process needs neither mpi4py nor an MPI library. Under MPI, an uncaught exception on any rank ends all
    ranks. Raises InputError if a launcher started several processes that can't see each other.
    """
    launcher, launched, _ = _launched()
    library, comm = _connect(launcher, launched, sums)
    if comm is not None and comm.size > 1:
        sys.excepthook = functools.partial(_excepthook, comm)
        return comm
    if launched > 1:
        raise InputError(f"{launcher} started {launched} processes, but each of them is alone ({library}): {_REMEDY}")
    return SingleProcess()


def is_reporter(comm: Communicator | None) -> bool:
    """True on rank 0, which prints for the whole job. comm: None while the ranks are not connected yet."""
    return (_launched()[2] if comm is None else comm.rank) == 0


def is_launched() -> bool:
    """True if an MPI launcher started this process, alone or with others."""
    return _launched()[0] != ""


def end_job(error: BaseException, comm: Communicator | None) -> int:
    """Print what ended the job, and return the exit status. If only this rank knows of the error, end all ranks."""
    if isinstance(error, JobError):
        if comm is None or comm.size == 1 or error.agreed:
            if is_reporter(comm):
                tell(f"error: {error}")
            elif comm is None:
                time.sleep(_SPEAK_SECONDS)
            return error.exit_status
        print(f"error: {_where(comm)}: {error}", file=sys.stderr, flush=True)
        comm.abort(error.exit_status)
    status = 1
    if isinstance(error, KeyboardInterrupt):
        status = 130  # 128 + SIGINT, as shells report it
    else:
        text = "".join(traceback.format_exception(error))
        heading = "" if comm is None or comm.size == 1 else f"{_where(comm)} failed:\n"
        print(f"{heading}{text}", end="", file=sys.stderr, flush=True)
    if comm is not None and comm.size > 1:
        comm.abort(status)
    return status


def _launched() -> tuple[str, int, int]:
    """The launcher's name, how many processes it started, and this process's rank; ("", 1, 0) without a launcher."""
    for name, size, rank in _LAUNCHERS:
        if os.environ.get(size, "").isdecimal():
            return name, int(os.environ[size]), int(os.environ.get(rank, "0"))
    return "", 1, 0


def _connect(launcher: str, launched: int, sums: Sums) -> tuple[str, Communicator | None]:
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
        if launched > 1 and not _fits(launcher, library):
            raise InputError(f"{launcher} started {launched} processes, but mpi4py uses {library}: {_REMEDY}")
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
    raise SystemExit(end_job(error, comm))
