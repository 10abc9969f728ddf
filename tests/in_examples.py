"""The folder examples, and how tests run what lies there: in a copy, and in a shell, as a person would."""

import os
import shutil
import sys
from pathlib import Path

from jobs import JOB_SECONDS, Job, mpirun, run_job
from pages import blocks

EXAMPLES = Path(__file__).parents[1] / "examples"


def copied(name: str, folder: Path) -> Path:
    """A copy of an example's folder, or of its one file: the folder in which it may be run."""
    if (EXAMPLES / name).is_dir():
        return Path(shutil.copytree(EXAMPLES / name, folder / name))
    shutil.copy(EXAMPLES / name, folder)
    return folder


def activated() -> dict[str, str]:
    """What makes `python` and `mpirun` in a shell those of these tests, as an activated environment does.

    Skips the test, or fails it under CI, if there is no mpirun.
    """
    mpirun()
    return {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def commands(readme: Path) -> str:
    """The commands of a README, one behind the other."""
    return "".join(text for language, _, text in blocks(readme) if language == "sh")


def shell(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = JOB_SECONDS) -> Job:
    """Run sh with these arguments, and wait until all of it is gone."""
    return run_job(None, *arguments, cwd=cwd, env={**activated(), **(env or {})}, timeout=timeout, python="sh")
