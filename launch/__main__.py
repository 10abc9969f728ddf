"""The launcher's command line."""

import dataclasses
import json
import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import click

from launch import job as jobs
from launch.doctor import FAIL, PASS, WARN, examine
from launch.errors import LaunchError
from launch.flavours import FLAVOURS, Job, find
from launch.lifeline import Lifelines
from launch.options import THREADS_VARIABLE, Launch, check_module, job_options, rank_program
from launch.restart import Restarts, out_folder, resuming
from launch.sbatch import Allocation, script

# The exit statuses of mpirun if a signal killed a rank. MPICH's mpirun returns the number of the signal, or 255 if it
# has to clean up several hosts. Other mpiruns return 128 more than the number. For SIGKILL (9): 9, 255 or 137.
_FATAL = (signal.SIGKILL, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT)
_KILLED = {255} | {base + number for base in (0, 128) for number in _FATAL}

_TRAIN = "ddp_numpy.train"
_module_option = click.option("-m", "module", default=_TRAIN, metavar="MODULE", help="What each rank runs.")


@click.group(context_settings={"show_default": True, "max_content_width": 110})
def cli() -> None:
    """Start ddp_numpy jobs: on this machine, on several hosts, or inside Slurm."""


@cli.command("run", context_settings={"ignore_unknown_options": True})
@job_options
@_module_option
@click.option("--log-dir", type=click.Path(path_type=Path), metavar="DIR", help="Keep output, one file per rank.")
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="S", help="End a job that runs longer.")
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
    module: str,
    log_dir: Path | None,
    timeout: float | None,
    max_restarts: int,
    elastic: bool,
    dry_run: bool,
    verbose: bool,
    arguments: tuple[str, ...],
) -> None:
    """Run a module on N ranks.

    Arguments that the launcher does not know go to the module, in order. So do all arguments after --:

    python -m launch run -n 4 --epochs 5 --data train.csv
    """
    check_module(module)
    restarts = Restarts(max_restarts, arguments)
    deadline = None if timeout is None else time.monotonic() + timeout
    while True:
        ending = _run_once(launch, module, arguments, log_dir, deadline, elastic, dry_run, verbose)
        if not restarts.again(ending):
            break
        arguments = resuming(arguments)
    if ending.status == jobs.TIMED_OUT and ending.asked:
        click.echo(f"error: the job ran longer than {timeout:g} s and was ended; see --timeout", err=True)
    sys.exit(ending.status)


def _run_once(
    launch: Launch,
    module: str,
    arguments: tuple[str, ...],
    log_dir: Path | None,
    deadline: float | None,
    elastic: bool,
    dry_run: bool,
    verbose: bool,
) -> jobs.Ending:
    program = rank_program(launch.flavour, module, arguments, log_dir)
    if dry_run:
        click.echo(shlex.join(launch.command(launch.job(program, _terminal()))))
        return jobs.Ending(0)
    with Lifelines() as lifelines:
        env = {**_terminal(), **lifelines.env}
        job = launch.job(program, env)
        if note := launch.note(job):
            click.echo(f"note: {note}", err=True)
        if verbose:
            command = shlex.join(launch.command(job))
            click.echo(f"{launch.flavour.title}, {launch.ranks} ranks: {command}", err=True)
        if log_dir is not None:
            _make_folder(log_dir)
        if elastic and (failed := launch.unreachable(job)):
            launch.drop(failed)
            click.echo(f"note: going on without {', '.join(failed)}, on {launch.ranks} ranks", err=True)
            job = launch.job(program, env)
        elif not elastic:
            launch.reach(job)
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        ending = jobs.run(launch.command(job), timeout, lifelines)
        starter = Path(launch.mpirun).name
        if ending.starter_killed:
            click.echo(f"error: {starter} was killed, and all ranks with it", err=True)
        elif ending.status in _KILLED and (rank := lifelines.first_dead()):
            click.echo(f"error: rank {rank.number} on {rank.host} was killed; {starter} ended the others", err=True)
    return ending


@cli.command("doctor")
@job_options
@click.option("--data", metavar="FILE", help="A file that must be the same on every host.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def doctor_command(launch: Launch, data: str | None, as_json: bool) -> None:
    """Start a small job on every host and say what is wrong. Exits with 1 if anything is."""
    checks, allreduce = examine(launch, data)
    if as_json:
        click.echo(json.dumps({"checks": [dataclasses.asdict(check) for check in checks], "allreduce": allreduce}))
    else:
        for check in checks:
            colour = {PASS: "green", WARN: "yellow", FAIL: "red"}[check.status]
            remedy = f"; {check.remedy}" if check.remedy else ""
            click.echo(f"{click.style(check.status, fg=colour)}  {check.title:<17}  {check.found}{remedy}")
        if allreduce:
            click.echo(f"\nAllreduce    {'bytes':>10}  {'µs':>10}  {'algbw MB/s':>10}  {'busbw MB/s':>10}")
        for row in allreduce:
            rates = "  ".join(f"{row[name] / 1e6:>10,.1f}" for name in ("algbw", "busbw"))
            click.echo(f"             {row['bytes']:>10,}  {row['seconds'] * 1e6:>10,.1f}  {rates}")
    sys.exit(any(check.status == FAIL for check in checks))


@cli.command("sbatch", context_settings={"ignore_unknown_options": True})
@click.option("--nodes", type=click.IntRange(min=1), default=1)
@click.option("--ntasks-per-node", type=click.IntRange(min=1), default=1, help="Ranks per node.")
@click.option("--time", required=True, metavar="[D-]HH:MM:SS", help="Time limit.")
@click.option("--partition", metavar="NAME")
@click.option("--account", metavar="NAME")
@click.option("--threads", type=click.IntRange(min=1), default=1, help="BLAS threads per rank, and so cores per rank.")
@click.option("--starter", type=click.Choice(["srun", "mpirun"]), default="srun", help="What starts the ranks.")
@click.option(
    "--warning", type=click.IntRange(min=1), default=120, metavar="S",
    help="Seconds before the time limit at which the ranks get SIGUSR1, to save their work.",
)  # fmt: skip
@_module_option
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def sbatch_command(
    nodes: int,
    ntasks_per_node: int,
    time: str,
    partition: str | None,
    account: str | None,
    threads: int,
    starter: str,
    warning: int,
    module: str,
    arguments: tuple[str, ...],
) -> None:
    """Print a Slurm job script that runs a module on all tasks.

    Arguments that are not known here go to the module, as with run:

    python -m launch sbatch --nodes 4 --ntasks-per-node 16 --time 1:00:00 --epochs 50 > job.sh
    """
    check_module(module)
    allocation = Allocation(nodes, ntasks_per_node, threads, time, warning, partition, account)
    path, flavour = ("srun", FLAVOURS["srun"]) if starter == "srun" else find("auto")
    job = Job(
        ranks=nodes * ntasks_per_node,
        program=rank_program(flavour, module, arguments, None),
        env={THREADS_VARIABLE: str(threads)},
    )
    more = ""
    if module == _TRAIN:
        if out_folder(arguments) is None:
            # A job that is queued again keeps its number, and so its folder.
            more = ' --out "runs/slurm-$SLURM_JOB_ID"'
        more += " --resume auto"
    click.echo(script(allocation, flavour, path, job, more), nl=False)


def main() -> None:
    """Run the command line. Every mistake becomes one line, `error: …`, and exit status 2."""
    try:
        cli.main(prog_name="python -m launch", standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"error: {error.format_message().rstrip('.')}", err=True)
        sys.exit(2)
    except click.Abort:
        sys.exit(130)


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


if __name__ == "__main__":
    main()
