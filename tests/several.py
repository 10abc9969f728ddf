"""Runs several commands of a module in one job, for tests that would else start a job for each of them."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from jobs import Job, run_job

_SCRIPT = Path(__file__).parent / "mpi" / "several_commands.py"

Command = tuple[Path, Sequence[object]]
"""The folder in which a command starts, and its arguments."""


def train_several(
    ranks: int | None, commands: Mapping[str, Command], timeout: float = 180, launch: Sequence[str] = ()
) -> dict[str, Job]:
    """Run trainings one after the other on so many ranks (None: without mpirun); returns how each of them ended.

    launch: options of the launcher that starts so many ranks, in place of mpirun.
    """
    return run_several("ddp_numpy.train", commands, ranks, timeout, launch)


def run_several(
    module: str,
    commands: Mapping[str, Command],
    ranks: int | None = None,
    timeout: float = 180,
    launch: Sequence[str] = (),
) -> dict[str, Job]:
    """The same for commands of any module.

    A command's output is the output of all its ranks, one rank after the other. Fails the test if the job of them all
    does not come to its end, if it writes anything itself, or if the ranks leave a command with different statuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder)
        listed = [(str(where), [str(word) for word in words]) for where, words in commands.values()]
        (notes / "commands.json").write_text(json.dumps(listed))
        script = (_SCRIPT, module, notes)
        if launch:
            job = run_job(None, "-m", "launch", "run", *launch, *script, cwd=notes, timeout=timeout)
        else:
            job = run_job(ranks, *script, cwd=notes, timeout=timeout)
        if (job.status, job.out, job.err) != (0, "", ""):
            reached = max((int(path.name.split("-")[0]) for path in notes.glob("*.err")), default=0)
            texts = [f"{path.name}:\n{path.read_text()}" for path in sorted(notes.glob(f"{reached}-*.*"))]
            pytest.fail(f"the job ended badly in the command '{list(commands)[reached]}': {job}\n" + "\n".join(texts))
        return {name: _ending(notes, number, ranks or 1) for number, name in enumerate(commands)}


def _ending(notes: Path, number: int, ranks: int) -> Job:
    """How one of the commands ended on all ranks together."""

    def text(ending: str) -> str:
        return "".join((notes / f"{number}-{rank}.{ending}").read_text() for rank in range(ranks))

    statuses = [json.loads((notes / f"{number}-{rank}.status").read_text()) for rank in range(ranks)]
    assert set(statuses) == {statuses[0]}, f"exit statuses of the ranks of command {number}: {statuses}"
    return Job(statuses[0], text("out"), text("err"))
