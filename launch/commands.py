"""The launcher's command line."""

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import click

from launch import job as jobs
from launch.arguments import BatchCommand, BatchLine, JobCommand, Name, Seconds, Text
from launch.doctor import FAIL, PASS, WARN, examine
from launch.errors import LaunchError
from launch.flavours import FLAVOURS, Job, find
from launch.lifeline import Lifelines
from launch.messages import one_line, shell, tell
from launch.options import BINDINGS, THREADS_VARIABLE, Launch, check_program, job_options, rank_program
from launch.rank import SCRIPT, Stream
from launch.restart import Restarts
from launch.sbatch import Allocation, resuming, script
from launch.signals import Signalled, Signals

# The exit statuses of mpirun if a signal killed a rank. MPICH's mpirun returns the number of the signal, or 255 if it
# has to clean up several hosts. Other mpiruns return 128 more than the number. For SIGKILL (9): 9, 255 or 137.
_FATAL = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
_KILLED = {255} | {base + number for base in (0, 128) for number in _FATAL}

_TRAIN, _SCALING = "ddp_numpy.train", "ddp_numpy.scaling"
_NO_COMMAND = 2  # the exit status
_module_option = click.option(
    "-m", "module", metavar="MODULE", help=f"What each rank runs, if it is no script.  [default: {_TRAIN}]"
)


def _print_version(context: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        # Read, not imported: the package imports NumPy, and the launcher does without.
        package = Path(__file__).parents[1] / "ddp_numpy" / "__init__.py"
        found = re.search(r'^__version__ = "(.*)"$', package.read_text(encoding="utf-8"), re.MULTILINE)
        click.echo(f"ddp_numpy {found[1] if found else 'of an unknown version'}")
        context.exit()


@click.group(context_settings={"show_default": True, "max_content_width": 110}, invoke_without_command=True)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version,
              help="Print the version and exit.")  # fmt: skip
@click.pass_context
def cli(context: click.Context) -> None:
    """Start ddp_numpy jobs: on this machine, on several hosts, or inside Slurm."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(_NO_COMMAND)


@cli.command("run", cls=JobCommand)
@job_options
@_module_option
@click.option("--log-dir", type=Name(), metavar="DIR", help="Keep output, one file per rank and start.")
@click.option("--timeout", type=Seconds(), metavar="S", help="End a job that runs longer.")
@click.option(
    "--max-restarts", type=click.IntRange(min=0), default=0, metavar="K",
    help="If the job dies, start it again, up to K times, from its last checkpoint in --out.",
)  # fmt: skip
@click.option("--elastic", is_flag=True, help="Leave out hosts that can't be started, and run fewer ranks.")
@click.option("--dry-run", is_flag=True, help="Print the command, ready to paste, and start nothing.")
@click.option("--verbose", is_flag=True, help="Print the command that is started, and whose mpirun it uses.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(
    launch: Launch,
    module: str | None,
    log_dir: Path | None,
    timeout: float | None,
    max_restarts: int,
    elastic: bool,
    dry_run: bool,
    verbose: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run a module or a script on N ranks.

    Arguments that the launcher does not know go to the module, in order. So do all arguments after -- and after a
    script:

    python -m launch run -n 4 --epochs 5 --data train.csv

    python -m launch run -n 4 my_training.py --epochs 5
    """
    program, arguments = _program(module, arguments)
    restarts = Restarts(max_restarts, arguments, launch.rank_0_is_here)
    if dry_run:
        job = launch.job(rank_program(launch.flavour, program, arguments, log_dir), _terminal())
        print(shell(launch.command(job)))
        return
    deadline = None if timeout is None else time.monotonic() + timeout
    with Signals() as signals:
        while True:
            log = log_dir / f"restart-{restarts.made}" if log_dir and restarts.made else log_dir
            ranks = rank_program(launch.flavour, program, restarts.arguments, log)
            ending = _run_once(launch, ranks, log, deadline, elastic, verbose, signals)
            if not restarts.again(ending):
                break
        if ending.status == jobs.TIMED_OUT and ending.asked:
            tell(f"error: the job ran longer than {timeout:g} s and was ended; see --timeout")
        sys.exit(ending.status)


def _run_once(
    launch: Launch,
    program: tuple[str, ...],
    log_dir: Path | None,
    deadline: float | None,
    elastic: bool,
    verbose: bool,
    signals: Signals,
) -> jobs.Ending:
    with Lifelines(launch.all_ranks_are_here) as lifelines:
        job = launch.job(program, _terminal(), lifelines.env)
        if note := launch.note(job):
            tell(f"note: {note}")
        if verbose:
            command = shell(launch.command(job))
            print(f"{launch.flavour.title}, {launch.ranks} ranks: {command}", file=sys.stderr)
        if log_dir is not None:
            _make_folder(log_dir)
        if elastic and (failed := launch.unreachable(job, signals)):
            launch.drop(failed)
            tell(f"note: going on without {', '.join(failed)}, on {launch.ranks} ranks")
            job = launch.job(program, _terminal(), lifelines.env)
        elif not elastic:
            launch.reach(job, signals)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ending = jobs.run(launch.command(job), job.hidden, timeout, lifelines, signals)
        starter = Path(launch.mpirun).name
        if ending.starter_killed:
            tell(f"error: {starter} was killed, and all ranks with it")
        elif ending.status in _KILLED and (rank := lifelines.first_dead()):
            tell(f"error: rank {rank.number} on {rank.host} was killed; {starter} ended the others")
    return ending


@cli.command("doctor")
@job_options
@click.option("--data", type=Name(), metavar="FILE", help="A file that must be the same on every host.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def doctor_command(launch: Launch, data: Path | None, as_json: bool) -> None:
    """Start a small job on every host and say what is wrong. Exits with 1 if anything is."""
    with Signals() as signals:
        checks, allreduce = examine(launch, data, signals)
    if as_json:
        print(json.dumps({"checks": [dataclasses.asdict(check) for check in checks], "allreduce": allreduce}))
    else:
        for check in checks:
            colour = {PASS: "green", WARN: "yellow", FAIL: "red"}[check.status]
            remedy = f"; {check.remedy}" if check.remedy else ""
            line = one_line(f"{check.title:<17}  {check.found}{remedy}")
            click.echo(f"{click.style(check.status, fg=colour)}  {line}", file=sys.stdout)
        if allreduce:
            print(f"\nAllreduce    {'bytes':>10}  {'µs':>10}  {'algbw MB/s':>10}  {'busbw MB/s':>10}")
        for row in allreduce:
            rates = "  ".join(f"{row[name] / 1e6:>10,.1f}" for name in ("algbw", "busbw"))
            print(f"             {row['bytes']:>10,}  {row['seconds'] * 1e6:>10,.1f}  {rates}")
    sys.exit(any(check.status == FAIL for check in checks))


@cli.command("sbatch", cls=BatchCommand)
@click.option("--nodes", type=click.IntRange(1, 10**6), default=1)
@click.option("--ntasks-per-node", type=click.IntRange(1, 10**6), default=1, help="Ranks per node.")
@click.option("--time", required=True, metavar="[D-]HH:MM:SS", help="Time limit.")
@click.option("--partition", type=Text(), metavar="NAME")
@click.option("--account", type=Text(), metavar="NAME")
@click.option("--qos", type=Text(), metavar="NAME", help="Quality of service.")
@click.option("--constraint", type=Text(), metavar="LIST", help="Features that the nodes must have.")
@click.option("--mem", type=Text(), metavar="SIZE", help="Memory per node, like 16G.")
@click.option("--exclusive", is_flag=True, help="Share the nodes with no other job.")
@click.option("--sbatch", "lines", type=BatchLine(), metavar="LINE", multiple=True,
              help="Any other option of sbatch, like --sbatch '--gres=gpu:1'.")  # fmt: skip
@click.option(
    "--threads", type=click.IntRange(1, 10**6), default=1, help="BLAS threads per rank, and so cores per rank."
)
@click.option("--bind", type=click.Choice(BINDINGS), default="none", help="Pin ranks.")
@click.option("--starter", type=click.Choice(["srun", "mpirun"]), default="srun", help="What starts the ranks.")
@click.option(
    "--warning", type=click.IntRange(1, 65535), default=120, metavar="S",
    help="Seconds before the time limit at which the ranks get SIGUSR1, to save their work.",
)  # fmt: skip
@_module_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sbatch_command(
    threads: int,
    bind: str,
    starter: str,
    module: str | None,
    arguments: tuple[str, ...],
    lines: tuple[str, ...],
    **asked: Any,
) -> None:
    """Print a Slurm job script that runs a module or a script on all tasks.

    Arguments that are not known here go to the module or script, as with run. An option of sbatch that is not known
    here is refused; --sbatch takes it.

    python -m launch sbatch --nodes 4 --ntasks-per-node 16 --time 1:00:00 --epochs 50 > job.sh
    """
    program, arguments = _program(module, arguments)
    allocation = Allocation(**asked, cpus_per_task=threads, lines=lines)
    path, flavour = ("srun", FLAVOURS["srun"]) if starter == "srun" else find("auto")
    job = Job(
        ranks=allocation.nodes * allocation.ntasks_per_node,
        program=rank_program(flavour, program, arguments, None),
        env={THREADS_VARIABLE: str(threads)},
        bind=bind,
    )
    resumes = resuming(arguments) if program == _TRAIN else None
    print(script(allocation, flavour, path, job, resumes), end="")


@cli.command("scaling", add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def scaling_command(arguments: tuple[str, ...]) -> None:
    """Measure how training scales with the number of ranks: as python -m ddp_numpy.scaling."""
    check_program(_SCALING)
    os.execv(sys.executable, [sys.executable, "-m", _SCALING, *arguments])


def run() -> None:
    """Run the command line. Every mistake becomes one line, `error: …`, and exit status 2."""
    _open_standard_streams()
    streams: Any = (Stream(sys.stdout), Stream(sys.stderr))
    sys.stdout, sys.stderr = streams
    try:
        sys.exit(cli.main(prog_name="python -m launch", standalone_mode=False))
    except click.ClickException as error:
        tell(f"error: {error.format_message().rstrip('.')}")
        sys.exit(2)
    except click.Abort:
        sys.exit(130)
    except Signalled as signalled:
        sys.exit(128 + signalled.number)


def _program(module: str | None, arguments: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """What each rank runs, and with which arguments. Raises LaunchError if it is not there."""
    program = module
    if module is None and arguments and arguments[0].endswith(SCRIPT):
        program, *rest = arguments
        arguments = tuple(rest)
    program = _TRAIN if program is None else program
    check_program(program)
    return program, arguments


def _open_standard_streams() -> None:
    """Open those that are closed on /dev/null: else the next file to be opened would be stdout, also that of mpirun."""
    with contextlib.suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(descriptor, True)
        os.close(descriptor)


def _terminal() -> dict[str, str]:
    """Variables that tell rank 0 about the user's terminal: rank 0 can't see it, because mpirun is in between."""
    if not sys.stdout.isatty():
        return {}
    return {"FORCE_COLOR": "1", "COLUMNS": str(shutil.get_terminal_size().columns), "TERM": os.environ.get("TERM", "")}


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LaunchError(f"--log-dir {folder}: {error.strerror}") from None
