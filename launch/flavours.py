"""The arguments that the mpirun of each MPI needs.

A flavour is one kind of mpirun. One pure function per flavour turns a job into a list of arguments.
"""

import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from launch.errors import LaunchError
from launch.hosts import Placement


@dataclasses.dataclass(frozen=True)
class Job:
    """A job as the user means it, not yet in the words of any MPI."""

    ranks: int
    program: tuple[str, ...]
    """The command that each rank runs."""
    placement: Placement = ()
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Environment variables for every rank, on every host."""
    hidden: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Further ones, whose values nobody else may see: everybody on a host can read the arguments of all processes.

    The launcher sets them for mpirun itself. Hydra and srun pass all their variables on to the ranks; Open MPI passes
    on those that its arguments name.
    """
    bind: str = "none"
    """What each rank is pinned to: "none", "core" or "socket"."""
    mpi_args: tuple[str, ...] = ()
    as_root: bool = False
    oversubscribed: bool = False
    """Whether a host has more ranks than cores, as far as the launcher knows."""


@dataclasses.dataclass(frozen=True)
class Flavour:
    """One kind of mpirun."""

    name: str
    title: str
    rank_variable: str
    """The environment variable that tells a rank its number."""
    build: Callable[[str, Job], list[str]]
    """(path of mpirun, job) -> the command."""


def mpich(mpirun: str, job: Job) -> list[str]:
    """MPICH's Hydra. It needs no argument to run as root, or to run more ranks than cores."""
    command = [mpirun, "-n", str(job.ranks), "-bind-to", job.bind, *_genv(job.env)]
    if job.placement:
        command += ["-hosts", _with_counts(job.placement)]
    return [*command, *job.mpi_args, *job.program]


def intel_mpi(mpirun: str, job: Job) -> list[str]:
    """Intel MPI's Hydra. Its list of hosts takes no counts: for uneven counts, each host gets its own arguments."""
    pin = {"none": {"I_MPI_PIN": "off"}, "core": {"I_MPI_PIN_DOMAIN": "core"}, "socket": {"I_MPI_PIN_DOMAIN": "socket"}}
    command = [mpirun, *_genv({**pin[job.bind], **job.env}), *job.mpi_args]
    if not job.placement:
        return [*command, "-n", str(job.ranks), *job.program]
    for number, (host, count) in enumerate(job.placement):
        if number > 0:
            command.append(":")
        command += ["-host", host, "-n", str(count), *job.program]
    return command


def open_mpi_4(mpirun: str, job: Job) -> list[str]:
    """Open MPI up to version 4."""
    return _open_mpi(mpirun, job, ["--oversubscribe"], job.bind)


def open_mpi_5(mpirun: str, job: Job) -> list[str]:
    """Open MPI from version 5 on, which calls a socket a package."""
    bind = "package" if job.bind == "socket" else job.bind
    return _open_mpi(mpirun, job, ["--map-by", "slot:OVERSUBSCRIBE"], bind)


def srun(path: str, job: Job) -> list[str]:
    """Slurm's srun, inside an allocation. Raises LaunchError for uneven hosts: srun gives all equally many tasks."""
    bind = {"none": "none", "core": "cores", "socket": "sockets"}[job.bind]
    command = [path, "--ntasks", str(job.ranks), "--mpi=pmi2", f"--cpu-bind={bind}"]
    if job.placement:
        counts = {count for _, count in job.placement}
        if len(counts) > 1:
            raise LaunchError("srun gives each host equally many ranks: give the hosts equal slots, or use mpirun")
        command += ["--nodelist", ",".join(host for host, _ in job.placement), f"--ntasks-per-node={counts.pop()}"]
    # srun passes its own environment to the ranks, so env sets the variables: srun's --export splits values at commas.
    settings = ["env", *(f"{name}={value}" for name, value in job.env.items())] if job.env else []
    return [*settings, *command, *job.mpi_args, *job.program]


FLAVOURS = {
    flavour.name: flavour
    for flavour in (
        Flavour("mpich", "MPICH", "PMI_RANK", mpich),
        Flavour("openmpi4", "Open MPI 4", "OMPI_COMM_WORLD_RANK", open_mpi_4),
        Flavour("openmpi", "Open MPI", "OMPI_COMM_WORLD_RANK", open_mpi_5),
        Flavour("intelmpi", "Intel MPI", "PMI_RANK", intel_mpi),
        Flavour("srun", "Slurm's srun", "SLURM_PROCID", srun),
    )
}


def recognize(version: str) -> Flavour | None:
    """The flavour of the mpirun that prints this for `--version`; None if it is not known."""
    if "Intel(R) MPI" in version:
        return FLAVOURS["intelmpi"]
    if "HYDRA" in version:
        return FLAVOURS["mpich"]
    if found := re.search(r"\(Open MPI\) (\d+)", version):
        return FLAVOURS["openmpi" if int(found[1]) >= 5 else "openmpi4"]
    if re.match(r"slurm", version):
        return FLAVOURS["srun"]
    return None


def find(wanted: str) -> tuple[str, Flavour]:
    """The path and flavour of the mpirun to use: one of the wanted kind, beside this Python, else on PATH.

    wanted: "auto", "mpich", "openmpi", "intelmpi" or "srun". Raises LaunchError if there is none of that kind.
    """
    if wanted == "srun":
        path = shutil.which("srun")
        if path is None:
            raise LaunchError("no srun on PATH: --mpi srun needs Slurm; leave it out to use mpirun")
        return path, FLAVOURS["srun"]
    beside = str(Path(sys.executable).parent)
    seen = []
    for folder in (beside, None):
        path = shutil.which("mpirun", path=folder)
        if path is None or path in seen:
            continue
        seen.append(path)
        flavour = recognize(_version(path))
        if flavour is not None and wanted in ("auto", flavour.name, flavour.name.rstrip("4")):
            return path, flavour
    if not seen:
        raise LaunchError(
            f"no mpirun beside this Python ({beside}) or on PATH: pip install 'ddp_numpy[mpich]' brings one"
        )
    kind = "of a known MPI" if wanted == "auto" else f"of {wanted}"
    raise LaunchError(f"no mpirun {kind}: found {', '.join(seen)}; install one, or choose another with --mpi")


def note(flavour: Flavour, job: Job) -> str | None:
    """A note for the user: what the command contains because of root, or of more ranks than cores. None if nothing."""
    if not flavour.name.startswith("openmpi") or not (job.as_root or job.oversubscribed):
        return None
    reasons = []
    if job.as_root:
        reasons.append("root")
    if job.oversubscribed:
        reasons.append("more ranks than cores")
    return f"{flavour.title} refuses {' and '.join(reasons)} unless told otherwise: told so"


def _version(mpirun: str) -> str:
    try:
        done = subprocess.run([mpirun, "--version"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr


def _open_mpi(mpirun: str, job: Job, oversubscribe: list[str], bind: str) -> list[str]:
    command = [mpirun, "-n", str(job.ranks), "--bind-to", bind]
    if job.as_root:
        command.append("--allow-run-as-root")
    if job.oversubscribed:
        command += oversubscribe
    for name, value in job.env.items():
        command += ["-x", f"{name}={value}"]
    for name in job.hidden:
        command += ["-x", name]
    if job.placement:
        command += ["--host", _with_counts(job.placement)]
    return [*command, *job.mpi_args, *job.program]


def _genv(env: Mapping[str, str]) -> list[str]:
    return [word for name, value in env.items() for word in ("-genv", name, value)]


def _with_counts(placement: Placement) -> str:
    return ",".join(f"{host}:{count}" for host, count in placement)
