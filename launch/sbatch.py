"""Writes a job as a Slurm job script, which the user can read, change and submit."""

import dataclasses
import re
import shlex

from launch.errors import LaunchError
from launch.flavours import Flavour, Job

INTERRUPTED = 75  # EX_TEMPFAIL: the job stopped early, with its work saved, and wants to be started again

_TIME = re.compile(r"\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d(:\d\d)?)?")  # the forms that sbatch(1) takes


@dataclasses.dataclass(frozen=True)
class Allocation:
    """What to ask Slurm for."""

    nodes: int
    ntasks_per_node: int
    cpus_per_task: int
    time: str
    """Minutes, or MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS."""
    warning_seconds: int
    """How long before the time limit the ranks get SIGUSR1. Slurm may send it up to a minute earlier."""
    partition: str | None = None
    account: str | None = None

    def __post_init__(self) -> None:
        """Raises LaunchError for a time that sbatch would not take."""
        if not _TIME.fullmatch(self.time):
            raise LaunchError(f"--time: {self.time!r} is not minutes, MM:SS, HH:MM:SS or D-HH[:MM[:SS]]")


def script(allocation: Allocation, flavour: Flavour, mpirun: str, job: Job, more: str = "") -> str:
    """The text of the job script.

    mpirun: the path of the flavour's mpirun, or of srun. more: further arguments, already in the shell's form.
    """
    by_srun = flavour.name == "srun"
    # With srun, the tasks are the ranks, and Slurm sends them the signal. With mpirun, Slurm sees only the helper
    # processes of mpirun. So the script itself takes the signal (B:) and sends it to mpirun, which tells the ranks.
    signal = f"{'' if by_srun else 'B:'}USR1@{allocation.warning_seconds}"
    settings = {
        "job-name": "ddp_numpy",
        "partition": allocation.partition,
        "account": allocation.account,
        "nodes": allocation.nodes,
        "ntasks-per-node": allocation.ntasks_per_node,
        "cpus-per-task": allocation.cpus_per_task,
        "time": allocation.time,
        "signal": signal,
        "open-mode": "append",
    }
    lines = ["#!/bin/bash"]
    lines += [f"#SBATCH --{name}={value}" for name, value in settings.items() if value is not None]
    lines += ["#SBATCH --requeue", ""]
    command = shlex.join(flavour.build(mpirun, job)) + more
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
