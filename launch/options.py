"""The options that say where and how a job runs, and the job that is made from them."""

import contextlib
import dataclasses
import functools
import importlib.machinery
import importlib.util
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from launch import rank
from launch.arguments import Name
from launch.errors import LaunchError
from launch.flavours import Flavour, Job, find, note
from launch.hosts import parse_hosts, place, read_hostfile
from launch.job import Process
from launch.signals import Signals

F = TypeVar("F", bound=Callable[..., Any])

_REACH_SECONDS = 20.0  # a host has this long to start a process
THREADS_VARIABLE = "OMP_NUM_THREADS"
_MOST_RANKS = 2**31 - 1  # MPI counts ranks in an int
_MOST_RANKS_A_CORE = 1000  # a host with more would only swap, if it started them all
# A batch system, or the user, tells mpirun by these variables on which hosts to start the ranks.
_NAMING_HOSTS = ("SLURM_JOB", "PBS_", "LSB_", "PE_HOSTFILE", "COBALT_", "FLUX_", "HYDRA_HOST", "I_MPI_HYDRA_HOST")
BINDINGS = ("none", "core", "socket")

_OPTIONS = (
    click.option(
        "-n", "--np", "ranks", type=click.IntRange(1, _MOST_RANKS), help="Ranks; default: all slots, tasks or cores."
    ),
    click.option("--hosts", metavar="a:4,b:4", help="Hosts, with or without slots."),
    click.option("--hostfile", type=Name(), metavar="FILE", help="Lines `host slots=4`."),
    click.option(
        "--mpi",
        type=click.Choice(["auto", "mpich", "openmpi", "intelmpi", "srun"]),
        default="auto",
        help="Which MPI's mpirun; auto takes the one beside this Python, else on PATH.",
    ),
    click.option("--threads", metavar="K|auto", help="BLAS threads per rank; auto is cores / ranks.  [default: 1]"),
    click.option("--bind", type=click.Choice(BINDINGS), default="none", help="Pin ranks."),
    click.option("--env", "settings", metavar="NAME=VALUE", multiple=True, help="Variable for every rank."),
    click.option("--mpi-args", default="", show_default=False, metavar="ARGS", help="Arguments for mpirun, in quotes."),
)


def job_options(command: F) -> F:
    """Add the options of `Launch` to a command. The command gets the `Launch` as its first argument."""
    names = {"ranks", "hosts", "hostfile", "mpi", "threads", "bind", "settings", "mpi_args"}

    @functools.wraps(command)
    def with_launch(**options: Any) -> Any:
        launch = Launch(**{name: options.pop(name) for name in names})
        return command(launch, **options)

    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(_OPTIONS), with_launch)  # type: ignore[return-value]


class Launch:
    """Where and how a job is to run, made from checked options."""

    def __init__(
        self,
        ranks: int | None,
        hosts: str | None,
        hostfile: Path | None,
        mpi: str,
        threads: str | None,
        bind: str,
        settings: tuple[str, ...],
        mpi_args: str,
    ) -> None:
        """Raises LaunchError for options that can't work, from a host in the wrong form to a missing mpirun."""
        if hosts is not None and hostfile is not None:
            raise LaunchError("--hosts and --hostfile: give one of them")
        named = parse_hosts(hosts) if hosts is not None else read_hostfile(hostfile) if hostfile is not None else []
        self.ranks = ranks or sum(slots or 1 for _, slots in named) or _tasks_or_cores()
        self.placement = place(named, self.ranks) if named else ()
        self.bind = bind
        try:
            self.mpi_args = tuple(shlex.split(mpi_args))
        except ValueError as error:
            raise LaunchError(f"--mpi-args: {error}") from None
        self.env = {**self._thread_setting(threads), **_settings(settings)}
        self.mpirun, self.flavour = find(mpi)
        if (self.placement or self._starts_here()) and max(self._ranks_a_host()) > _MOST_RANKS_A_CORE * _cores():
            raise LaunchError(
                f"{max(self._ranks_a_host())} ranks on one host are more than {_MOST_RANKS_A_CORE} for each of its "
                f"{_cores()} cores: lower -n, or name more hosts"
            )

    @property
    def rank_0_is_here(self) -> bool:
        """Whether rank 0 is on this host, as far as the launcher knows."""
        return _is_here(self.placement[0][0]) if self.placement else self._starts_here()

    @property
    def all_ranks_are_here(self) -> bool:
        """Whether all ranks are on this host, as far as the launcher knows."""
        if self.mpi_args:  # which may name hosts
            return False
        return all(_is_here(host) for host, _ in self.placement) if self.placement else self._starts_here()

    def _starts_here(self) -> bool:
        """Whether a job with no hosts named starts on this host alone."""
        return self.flavour.name != "srun" and not any(name.startswith(_NAMING_HOSTS) for name in os.environ)

    def job(
        self, program: tuple[str, ...], env: Mapping[str, str] | None = None, hidden: Mapping[str, str] | None = None
    ) -> Job:
        """The job that runs a program on the ranks of this launch. hidden: as for Job."""
        return Job(
            ranks=self.ranks,
            program=program,
            placement=self.placement,
            env={**self.env, **(env or {})},
            hidden=hidden or {},
            bind=self.bind,
            mpi_args=self.mpi_args,
            as_root=os.geteuid() == 0,
            oversubscribed=max(self._ranks_a_host()) > _cores(),
        )

    def command(self, job: Job) -> list[str]:
        """The command line that starts a job."""
        return self.flavour.build(self.mpirun, job)

    def note(self, job: Job) -> str | None:
        """A note for the user: what the command contains that the user did not ask for. None if nothing."""
        return note(self.flavour, job)

    def reach(self, job: Job, signals: Signals) -> None:
        """Start a process on each host, one command per host. Raises LaunchError for hosts that can't be reached."""
        if failed := self.unreachable(job, signals):
            raise LaunchError(f"can't start a process on {_reasons(failed)}; check that `ssh HOST true` works unasked")

    def drop(self, failed: dict[str, str]) -> None:
        """Leave out these hosts and their ranks. Raises LaunchError if no host is left."""
        self.placement = tuple((host, count) for host, count in self.placement if host not in failed)
        self.ranks = sum(count for _, count in self.placement)
        if not self.placement:
            raise LaunchError(f"can't start a process on any host: {_reasons(failed)}")

    def unreachable(self, job: Job, signals: Signals) -> dict[str, str]:
        """The hosts on which no process can be started, each with the reason."""
        failed: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            started = {}
            for host, _ in self.placement:
                alone = dataclasses.replace(job, ranks=1, placement=((host, 1),), program=("true",), hidden={})
                attempt = Process(self.command(alone), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                started[host] = stack.enter_context(attempt).process
            deadline = time.monotonic() + _REACH_SECONDS
            for host, process in started.items():
                try:
                    with signals.waiting():
                        said, _ = process.communicate(timeout=max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    failed[host] = f"no answer in {_REACH_SECONDS:g} s"
                    process.terminate()  # all of them now: the stack then ends one after the other
                else:
                    if process.returncode:
                        lines = said.decode(errors="replace").splitlines()
                        telling = [line.strip() for line in lines if any(letter.isalpha() for letter in line)]
                        failed[host] = telling[0] if telling else f"status {process.returncode}"
        return failed

    def _thread_setting(self, threads: str | None) -> dict[str, str]:
        if threads is None:
            return {THREADS_VARIABLE: os.environ.get(THREADS_VARIABLE, "1")}
        if threads == "auto":
            return {THREADS_VARIABLE: str(max(1, _cores() // max(self._ranks_a_host())))}
        if not re.fullmatch("[1-9][0-9]{0,5}", threads):
            raise LaunchError(f"--threads: {threads!r} is not a whole number above 0 or auto")
        return {THREADS_VARIABLE: threads}

    def _ranks_a_host(self) -> list[int]:
        return [count for _, count in self.placement] or [self.ranks]


def _reasons(failed: dict[str, str]) -> str:
    return "; ".join(f"{host}: {reason}" for host, reason in failed.items())


def rank_program(flavour: Flavour, program: str, arguments: tuple[str, ...], log_dir: Path | None) -> tuple[str, ...]:
    """The command that each rank runs: a module or a script, with its errors marked.

    With a log_dir, its output is kept there.
    """
    try:
        log = os.path.abspath(log_dir) if log_dir else ""
    except FileNotFoundError:
        raise LaunchError(f"--log-dir {log_dir}: the working folder was removed") from None
    # By its path, and with -P, which keeps the folders of the user and of rank.py out of sys.path: a launch.py of the
    # user's can't take the place of this package.
    return (sys.executable, "-P", os.path.abspath(rank.__file__), flavour.rank_variable, log, program, *arguments)


def check_program(program: str) -> None:
    """Raise LaunchError unless a rank's Python, started in this folder, finds the module or script. Imports nothing."""
    if program.endswith(rank.SCRIPT):
        if not os.path.isfile(program):
            raise LaunchError(f"{program}: there is no such script here; -m takes the name of a module")
        return
    path, name, spec = None, "", None
    for part in program.split("."):
        name = f"{name}.{part}" if name else part
        spec = _find_spec(name, path)
        if spec is None:
            raise LaunchError(f"-m {program}: no module named {name!r}; install it, or start in the folder it is in")
        path = list(spec.submodule_search_locations or [])
    assert spec is not None
    is_package = spec.submodule_search_locations is not None
    if is_package and _find_spec(f"{name}.__main__", path) is None:
        raise LaunchError(f"-m {program}: a package without a module __main__ can't be run; name one of its modules")
    if spec.origin == "built-in" or isinstance(spec.loader, importlib.machinery.ExtensionFileLoader):
        raise LaunchError(f"-m {program}: not written in Python, so it can't be run")


def _find_spec(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    """The spec of a module. path: that of its package, or None for a module outside all packages."""
    if path is not None:
        return importlib.machinery.PathFinder.find_spec(name, path)
    with contextlib.suppress(OSError):  # the working folder was removed
        if found := importlib.machinery.PathFinder.find_spec(name, [os.getcwd()]):
            return found
    try:
        return importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None


def _is_here(host: str) -> bool:
    return host in ("localhost", "127.0.0.1", socket.gethostname(), socket.gethostname().partition(".")[0])


def _tasks_or_cores() -> int:
    tasks = os.environ.get("SLURM_NTASKS", "")
    return int(tasks) if re.fullmatch("[1-9][0-9]{0,8}", tasks) else _cores()


def _cores() -> int:
    """The cores that this process may use. The launcher assumes that every other host has as many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _settings(settings: tuple[str, ...]) -> dict[str, str]:
    for setting in settings:
        name, equals, _ = setting.partition("=")
        if not equals or not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name):
            raise LaunchError(f"--env: {setting!r} is not NAME=VALUE")
    return dict(setting.split("=", 1) for setting in settings)
