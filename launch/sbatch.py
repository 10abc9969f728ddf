"""Writes a job as a Slurm job script, which the user can read, change and submit."""

import dataclasses
import re
import shlex
from typing import NamedTuple

from launch.errors import LaunchError
from launch.flavours import Flavour, Job
from launch.messages import shell
from launch.restart import CHECKPOINTS, INTERRUPTED, RESUME_AUTO, value_of

# The forms that sbatch(1) takes.
_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d(:\d\d)?)?", re.ASCII)


@dataclasses.dataclass(frozen=True)
class Allocation:
    """What to ask Slurm for."""

    nodes: int
    ntasks_per_node: int
    cpus_per_task: int
    time: str
    """Minutes, or MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    warning: int
    """Seconds. How long before the time limit the ranks get SIGUSR1. Slurm may send it up to a minute earlier."""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    mem: str | None = None
    exclusive: bool = False
    lines: tuple[str, ...] = ()
    """Further options of sbatch, in its own words."""

    def __post_init__(self) -> None:
        """Raises LaunchError for a time that sbatch would not take."""
        if not _TIME.fullmatch(self.time):
            raise LaunchError(f"--time: {self.time!r} is not minutes, MM:SS, HH:MM:SS or D-HH[:MM[:SS]]")


class Resuming(NamedTuple):
    """What the script needs for a training that goes on where it stood, each time its job is queued again."""

    lines: list[str]
    """Before the command."""
    more: str
    """Further arguments of the command, in the shell's form."""


def resuming(arguments: tuple[str, ...]) -> Resuming:
    """For a training with these arguments. Until its folder has a checkpoint, it starts from the user's --resume."""
    out, start = value_of("--out", arguments), value_of("--resume", arguments)
    # A job that is queued again keeps its number, and so its folder.
    folder = '"runs/slurm-$SLURM_JOB_ID"' if out is None else shell([out])
    more = f" --out {folder}" if out is None else ""
    if start == "auto":
        return Resuming([], more)
    if start is None:
        return Resuming([], f"{more} {' '.join(RESUME_AUTO)}")
    lines = [
        f"# The job starts from {shell([start])} until its own folder has a checkpoint.",
        "resume=()",
        f"for checkpoint in {folder}/{CHECKPOINTS}; do",
        f'    if [ -e "$checkpoint" ]; then resume=({" ".join(RESUME_AUTO)}); fi',
        "done",
    ]
    return Resuming(lines, more + ' "${resume[@]}"')


def script(allocation: Allocation, flavour: Flavour, mpirun: str, job: Job, resuming: Resuming | None) -> str:
    """The text of the job script. mpirun: the path of the flavour's mpirun, or of srun."""
    by_srun = flavour.name == "srun"
    # With srun, the tasks are the ranks, and Slurm sends them the signal. With mpirun, Slurm sees only the helper
    # processes of mpirun. So the script itself takes the signal (B:) and sends it to mpirun, which tells the ranks.
    signal = f"{'' if by_srun else 'B:'}USR1@{allocation.warning}"
    settings = {
        "job-name": "ddp_numpy",
        "partition": allocation.partition,
        "account": allocation.account,
        "nodes": allocation.nodes,
        "ntasks-per-node": allocation.ntasks_per_node,
        "cpus-per-task": allocation.cpus_per_task,
        "time": allocation.time,
        "qos": allocation.qos,
        "constraint": allocation.constraint,
        "mem": allocation.mem,
        "signal": signal,
        "open-mode": "append",
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{name}={shlex.quote(str(value))}" for name, value in settings.items() if value is not None]
    if allocation.exclusive:
        lines.append("#SBATCH --exclusive")
    lines += ["#SBATCH --requeue", *(f"#SBATCH {line}" for line in allocation.lines), ""]
    command = shell(flavour.build(mpirun, job))
    if resuming is not None:
        lines += resuming.lines
        command += resuming.more
    lines += [command, "status=$?"] if by_srun else _forwarding(command)
    lines += [
        "",
        f"# {INTERRUPTED}: stopped before the time limit, with its work saved. Go on in a new allocation.",
        f'if [ "$status" -eq {INTERRUPTED} ]; then',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$status"',
    ]
    return "\n".join(lines) + "\n"


def _forwarding(command: str) -> list[str]:
    return [
        f"{command} &",
        "job=$!",
        "trap 'kill -USR1 \"$job\"' USR1",
        'wait "$job"',
        "status=$?",
        "# The signal ends a wait, not the job.",
        'while kill -0 "$job" 2>/dev/null; do',
        '    wait "$job"',
        "    status=$?",
        "done",
    ]
