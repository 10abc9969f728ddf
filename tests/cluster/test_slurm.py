"""The printed job script, submitted to a real Slurm."""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm
from jobs import Job, run_job
from tables import classified_rows, write_csv

_SECONDS = 240  # Slurm looks at time limits only every half minute

both_starters = pytest.mark.parametrize("starter", ["srun", "mpirun"])


@pytest.fixture(scope="module")
def env(one_test_run: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which a Slurm of two nodes answers."""
    missing = [program for program in slurm.PROGRAMS if not shutil.which(program)]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm")
    with slurm.running(tmp_path_factory.mktemp("slurm")) as env:
        yield env


def sbatch(*arguments: str, folder: Path) -> Job:
    return run_job(None, "-m", "launch", "sbatch", *arguments, cwd=folder)


def printed(*arguments: str, folder: Path) -> Path:
    """The script that `launch sbatch` prints, in a file."""
    job = sbatch(*arguments, folder=folder)
    assert job.status == 0, job.err
    (folder / "job.sh").write_text(job.out)
    return folder / "job.sh"


def submit(script: Path, env: dict[str, str]) -> str:
    """Returns the job's number."""
    command = ["sbatch", "--parsable", script]
    done = subprocess.run(command, cwd=script.parent, env=env, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip()


def wait_for(words: str, number: str, env: dict[str, str], folder: Path) -> None:
    """Wait until Slurm says this of a job; fails the test, with what the job wrote, if that takes too long."""
    deadline = time.monotonic() + _SECONDS
    shown = ""
    while words not in shown and time.monotonic() < deadline:
        time.sleep(0.3)
        asked = ["scontrol", "show", "job", number]
        shown = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=30, check=True).stdout
    assert words in shown, (shown, *(path.read_text() for path in folder.glob("slurm-*.out")))


def waiting_job(starter: str, env: dict[str, str], folder: Path) -> str:
    """The number of a job of four ranks that wait for a warning, and then want to be queued again."""
    folder.mkdir()
    (folder / "warned.py").write_text(
        "import os, signal, sys, time\nfrom ddp_numpy import world\ncomm = world()\nwarned = []\n"
        "signal.signal(signal.SIGUSR1, lambda *_: warned.append(1))\n"
        "while not all(comm.broadcast(comm.gather(bool(warned)))): time.sleep(0.05)\n"
        "open(f'warned-{comm.rank}', 'w').close()\nsys.exit(75)\n"
    )
    # Slurm looks every half minute whether to warn, and sees to it that it is not late: so the warning comes between 15
    # and 45 seconds after the start, as the ranks are ready for it and have time to end.
    size = ("--nodes", "2", "--ntasks-per-node", "2", "--time", "1", "--warning", "15", "--starter", starter)
    return submit(printed(*size, "-m", "warned", folder=folder), env)


@pytest.mark.slow
def test_jobs_near_their_time_limit_are_warned_and_queued_again(env: dict[str, str], tmp_path: Path) -> None:
    # Both at once, as they mostly wait; and first of all tests, as Slurm has just begun its half minute.
    numbers = {starter: waiting_job(starter, env, tmp_path / starter) for starter in ("srun", "mpirun")}
    try:
        for starter, number in numbers.items():
            folder = tmp_path / starter
            wait_for("Restarts=1", number, env, folder)
            assert sorted(path.name for path in folder.glob("warned-*")) == [f"warned-{rank}" for rank in range(4)]
    finally:
        subprocess.run(["scancel", *numbers.values()], env=env, timeout=30, check=True)


@both_starters
def test_four_tasks_on_two_nodes_train_together(starter: str, env: dict[str, str], tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(100))
    (tmp_path / "where.py").write_text(
        "import os, sys; from ddp_numpy import world; comm = world()\n"
        "sys.stdout.write(f'rank {comm.rank} of {comm.size} on ' + os.environ['SLURMD_NODENAME'] + '\\n')\n"
        "sys.stdout.flush()\n"
        "from ddp_numpy.train import main; from ddp_numpy.cli import run; run(main)\n"
    )
    size = ("--nodes", "2", "--ntasks-per-node", "2", "--time", "2", "--starter", starter)
    script = printed(*size, "-m", "where", "--data", "t.csv", "--epochs", "2", "--out", "out", folder=tmp_path)
    number = submit(script, env)
    wait_for("JobState=COMPLETED", number, env, tmp_path)
    written = (tmp_path / f"slurm-{number}.out").read_text()
    places = sorted(re.findall(r"rank (\d) of 4 on (n\d)", written))
    assert places == [("0", "n1"), ("1", "n1"), ("2", "n2"), ("3", "n2")], written
    assert "1 thread a rank" in written
    assert (tmp_path / "out" / "model.npz").exists()


@both_starters
def test_shellcheck_passes_the_script(starter: str, tmp_path: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck: apt-get install shellcheck")
    options = ("--time", "1-00:00:00", "--partition", "gpu", "--account", "x", "--starter", starter)
    script = printed(*options, "--data", "a file's name.csv", folder=tmp_path)
    checked = subprocess.run(["shellcheck", script], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_script_says_what_was_asked_for(tmp_path: Path) -> None:
    job = sbatch("--nodes", "4", "--ntasks-per-node", "16", "--threads", "2", "--time", "1:00:00", "--partition", "p",
                 "--epochs", "50", "--", "--time", "x", folder=tmp_path)  # fmt: skip
    assert job.out.splitlines() == [
        "#!/bin/bash",
        "#SBATCH --job-name=ddp_numpy",
        "#SBATCH --partition=p",
        "#SBATCH --nodes=4",
        "#SBATCH --ntasks-per-node=16",
        "#SBATCH --cpus-per-task=2",
        "#SBATCH --time=1:00:00",
        "#SBATCH --signal=USR1@120",
        "#SBATCH --open-mode=append",
        "#SBATCH --requeue",
        "",
        f"env OMP_NUM_THREADS=2 srun --ntasks 64 --mpi=pmi2 --cpu-bind=none {sys.executable} -m launch.rank "
        "SLURM_PROCID '' ddp_numpy.train --epochs 50 --time x "
        '--out "runs/slurm-$SLURM_JOB_ID" --resume auto',
        "status=$?",
        "",
        "# 75: stopped before the time limit, with its work saved. Go on in a new allocation.",
        'if [ "$status" -eq 75 ]; then',
        '    scontrol requeue "$SLURM_JOB_ID"',
        "fi",
        'exit "$status"',
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--time", "soon"), "error: --time: 'soon' is not minutes, MM:SS"),
        ((), "error: Missing option '--time'"),
        (("--time", "1", "--nodes", "0"), "error: Invalid value for '--nodes'"),
        (("--time", "1", "-m", "gone"), "error: -m gone: no module named 'gone'"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    job = sbatch(*arguments, folder=tmp_path)
    assert (job.status, job.out) == (2, "")
    assert job.err.startswith(message)
