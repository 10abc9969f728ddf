"""The options that say where and how a job runs, and the job that is made from them."""

import dataclasses
import functools
import importlib.machinery
import importlib.util
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from launch.errors import LaunchError
from launch.flavours import Flavour, Job, find, note
from launch.hosts import parse_hosts, place, read_hostfile
from launch.job import Process

F = TypeVar("F", bound=Callable[..., Any])

_REACH_SECONDS = 20.0  # a host has this long to start a process
THREADS_VARIABLE = "OMP_NUM_THREADS"

_OPTIONS = (
    click.option("-n", "--np", "ranks", type=click.IntRange(min=1), help="Ranks; default: all slots, tasks or cores."),
    click.option("--hosts", metavar="a:4,b:4", help="Hosts, with or without slots."),
    click.option("--hostfile", type=click.Path(path_type=Path), metavar="FILE", help="Lines `host slots=4`."),
    click.option(
        "--mpi",
        type=click.Choice(["auto", "mpich", "openmpi", "intelmpi", "srun"]),
        default="auto",
        help="Which MPI's mpirun; auto takes the one beside this Python, else on PATH.",
    ),
    click.option("--threads", metavar="K|auto", help="BLAS threads per rank; auto is cores / ranks.  [default: 1]"),
    click.option("--bind", type=click.Choice(["none", "core", "socket"]), default="none", help="Pin ranks."),
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

    def job(self, program: tuple[str, ...], env: Mapping[str, str] | None = None) -> Job:
        """The job that runs a program on the ranks of this launch."""
        return Job(
            ranks=self.ranks,
            program=program,
            placement=self.placement,
            env={**self.env, **(env or {})},
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

    def reach(self, job: Job) -> None:
        """Start a process on each host, one command per host. Raises LaunchError for hosts that can't be reached."""
        if failed := self.unreachable(job):
            raise LaunchError(f"can't start a process on {_reasons(failed)}; check that `ssh HOST true` works unasked")

    def drop(self, failed: dict[str, str]) -> None:
        """Leave out these hosts and their ranks. Raises LaunchError if no host is left."""
        self.placement = tuple((host, count) for host, count in self.placement if host not in failed)
        self.ranks = sum(count for _, count in self.placement)
        if not self.placement:
            raise LaunchError(f"can't start a process on any host: {_reasons(failed)}")

    def unreachable(self, job: Job) -> dict[str, str]:
        """The hosts on which no process can be started, each with the reason."""
        started = {}
        for host, _ in self.placement:
            alone = dataclasses.replace(job, ranks=1, placement=((host, 1),), program=("true",))
            started[host] = Process(self.command(alone), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline, failed = time.monotonic() + _REACH_SECONDS, {}
        for host, attempt in started.items():
            with attempt:
                try:
                    said, _ = attempt.process.communicate(timeout=max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    failed[host] = f"no answer in {_REACH_SECONDS:g} s"
                else:
                    if attempt.process.returncode:
                        lines = said.decode(errors="replace").splitlines()
                        telling = [line.strip() for line in lines if any(letter.isalpha() for letter in line)]
                        failed[host] = telling[0] if telling else f"status {attempt.process.returncode}"
        return failed

    def _thread_setting(self, threads: str | None) -> dict[str, str]:
        if threads is None:
            return {THREADS_VARIABLE: os.environ.get(THREADS_VARIABLE, "1")}
        if threads == "auto":
            return {THREADS_VARIABLE: str(max(1, _cores() // max(self._ranks_a_host())))}
        if not threads.isdecimal() or int(threads) < 1:
            raise LaunchError(f"--threads: {threads!r} is not a whole number above 0 or auto")
        return {THREADS_VARIABLE: threads}

    def _ranks_a_host(self) -> list[int]:
        return [count for _, count in self.placement] or [self.ranks]


def _reasons(failed: dict[str, str]) -> str:
    return "; ".join(f"{host}: {reason}" for host, reason in failed.items())


def rank_program(flavour: Flavour, module: str, arguments: tuple[str, ...], log_dir: Path | None) -> tuple[str, ...]:
    """The command that each rank runs: a module, with its errors marked. With a log_dir, its output is kept there."""
    log = str(log_dir.resolve()) if log_dir else ""
    return (sys.executable, "-m", "launch.rank", flavour.rank_variable, log, module, *arguments)


def check_module(module: str) -> None:
    """Raise LaunchError unless a rank's Python, started in this folder, finds the module. Imports nothing."""
    path, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = _find_spec(name, path)
        if spec is None:
            raise LaunchError(f"-m {module}: no module named {name!r}; install it, or start in the folder it is in")
        path = list(spec.submodule_search_locations or [])


def _find_spec(name: str, path: list[str] | None) -> importlib.machinery.ModuleSpec | None:
    """The spec of a module. path: that of its package, or None for a module outside all packages."""
    if path is not None:
        return importlib.machinery.PathFinder.find_spec(name, path)
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        found = None
    return found or importlib.machinery.PathFinder.find_spec(name, [os.getcwd()])


def _tasks_or_cores() -> int:
    tasks = os.environ.get("SLURM_NTASKS", "")
    return int(tasks) if tasks.isdecimal() else _cores()


def _cores() -> int:
    """The cores that this process may use. The launcher assumes that every other host has as many."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _settings(settings: tuple[str, ...]) -> dict[str, str]:
    for setting in settings:
        name, equals, _ = setting.partition("=")
        if not equals or not name.isidentifier():
            raise LaunchError(f"--env: {setting!r} is not NAME=VALUE")
    return dict(setting.split("=", 1) for setting in settings)
