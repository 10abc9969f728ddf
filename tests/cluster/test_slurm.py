"""The printed job script, submitted to a real Slurm."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import slurm
from in_examples import activated, commands, copied
from jobs import Job, run_job
from run_folders import lines
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model
from launch import rank

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


def wait_for(words: str, number: str, env: dict[str, str], folder: Path) -> str:
    """Wait until Slurm says this of a job, and return all it says; fails the test, with what the job wrote, if that
    takes too long.
    """
    deadline = time.monotonic() + _SECONDS
    shown = ""
    while words not in shown and time.monotonic() < deadline:
        time.sleep(0.3)
        asked = ["scontrol", "show", "job", number]
        shown = subprocess.run(asked, env=env, capture_output=True, text=True, timeout=30, check=True).stdout
    assert words in shown, (shown, *(path.read_text() for path in folder.glob("slurm-*.out")))
    return shown


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
    write_known_csv(tmp_path / "t.csv", *classified_rows(100))
    (tmp_path / "where.py").write_text(
        "import os, sys; from ddp_numpy import world; comm = world()\n"
        "sys.stdout.write(f'rank {comm.rank} of {comm.size} on ' + os.environ['SLURMD_NODENAME'] + '\\n')\n"
        "sys.stdout.flush()\n"
        "from ddp_numpy.train import main; from ddp_numpy.cli import run; run(main)\n"
    )
    size = ("--nodes", "2", "--ntasks-per-node", "2", "--time", "2", "--starter", starter)
    size += ("--exclusive", "--mem", "1", "--sbatch", "--comment='two words'", "--account", "x --comment=y")
    script = printed(*size, "-m", "where", "--data", "t.csv", "--epochs", "2", "--out", "out", folder=tmp_path)
    number = submit(script, env)
    shown = wait_for("JobState=COMPLETED", number, env, tmp_path)
    for words in ("Comment=two words", "Account=x --comment=y ", "MinMemoryNode=1M", "OverSubscribe=NO"):
        assert words in shown
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
    script = printed(*options, "--data", "a file's name\n.csv", "--resume", "an old run", folder=tmp_path)
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
        f"env OMP_NUM_THREADS=2 srun --ntasks 64 --mpi=pmi2 --cpu-bind=none {sys.executable} -P {rank.__file__} "
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


# In place of srun, it says with what it was started.
SRUN = '#!/bin/sh\nwhile [ "$1" != ddp_numpy.train ]; do shift; done\nshift\necho "$*"\n'


@pytest.mark.parametrize(
    ("asked", "first", "again"),
    [
        ("", "--resume auto", "--resume auto"),
        ("--resume auto", "--resume auto", "--resume auto"),
        ("--resume old", "--resume old", "--resume old --resume auto"),
    ],
)
@pytest.mark.parametrize("out", ["a new * $run", None])
def test_a_job_that_is_queued_again_goes_on_and_starts_as_it_was_asked_to(
    asked: str, first: str, again: str, out: str | None, tmp_path: Path
) -> None:
    (tmp_path / "srun").write_text(SRUN)
    (tmp_path / "srun").chmod(0o755)
    where = () if out is None else ("--out", out)
    script = printed("--time", "1", *where, *asked.split(), folder=tmp_path)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    folder = out or "runs/slurm-7"

    def words() -> str:
        done = subprocess.run(["bash", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
        return " ".join(done.stdout.replace(f"--out {folder}", "").split())

    assert words() == first
    (tmp_path / folder / "checkpoints").mkdir(parents=True)
    assert words() == first
    (tmp_path / folder / "checkpoints" / "step-0000000005.npz").touch()
    assert words() == again


def test_no_value_puts_a_line_into_the_script(tmp_path: Path) -> None:
    evil = "x\n#SBATCH --comment=y\nrm -rf ~\r"
    for option in ("--partition", "--account", "--time", "--qos", "--constraint", "--mem", "--sbatch"):
        job = sbatch("--time", "1", option, evil, folder=tmp_path)
        assert (job.status, job.out) == (2, "")
        assert len(job.err.splitlines()) == 1
        assert r"x\n#SBATCH --comment=y\nrm -rf ~\r" in job.err
    plain, job = (sbatch("--time", "1", "--", "--data", data, evil, folder=tmp_path) for data in ("x", evil))
    assert len(job.out.splitlines()) == len(plain.out.splitlines())
    assert job.out.count("#SBATCH") == plain.out.count("#SBATCH") + 1


def test_what_can_be_asked_of_slurm(tmp_path: Path) -> None:
    (tmp_path / "t.py").touch()
    options = ("--time", "1", "--exclusive", "--mem", "4G", "--qos", "high", "--constraint", "a&b", "--bind", "core")
    job = sbatch(*options, "--sbatch", "--gres=gpu:1", "--sbatch", "-w n1", "t.py", "--gres", "x", folder=tmp_path)
    assert job.status == 0, job.err
    lines = job.out.splitlines()
    for line in ("--exclusive", "--mem=4G", "--qos=high", "--constraint='a&b'", "--gres=gpu:1", "-w n1"):
        assert f"#SBATCH {line}" in lines
    (command,) = [line for line in lines if "srun" in line]
    assert " --cpu-bind=cores " in command
    assert command.endswith(" t.py --gres x"), "what stands behind a script is the script's"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--time", "soon"), "error: --time: 'soon' is not minutes, MM:SS"),
        ((), "error: Missing option '--time'"),
        (("--time", "1", "--nodes", "0"), "error: Invalid value for '--nodes'"),
        (("--time", "1", "-m", "gone"), "error: -m gone: no module named 'gone'"),
        (("--time", "1", "gone.py"), "error: gone.py: there is no such script here"),
        (("--time", "1", "--warning", str(10**30)), "error: Invalid value for '--warning'"),
        (("--time", "1", "--sbatch", "gres=1"), "error: Invalid value for '--sbatch': 'gres=1' is not an option of"),
        (
            ("--time", "1", "--sbatch", "-N 3"),
            "error: Invalid value for '--sbatch': '-N 3': write --nodes in its place",
        ),
        (("--time", "1", "--gres=gpu:1"), 'error: --gres is an option of sbatch: write --sbatch "--gres=VALUE"; opt'),
        (("--time", "1", "-x", "n1"), 'error: -x is an option of sbatch: write --sbatch "-x VALUE"; options of'),
        (("--time", "1", "-N", "4"), "error: -N is an option of sbatch: write --nodes; options of the job stand"),
    ],
)
def test_mistakes(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    job = sbatch(*arguments, folder=tmp_path)
    assert (job.status, job.out) == (2, "")
    assert job.err.startswith(message)


def test_the_scripts_of_the_example_train_the_same(env: dict[str, str], tmp_path: Path) -> None:
    folder, env = copied("slurm", tmp_path), {**env, **activated()}
    command = ["sh", "-e", "-c", commands(folder / "README.md")]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)
    numbers = re.findall(r"^Submitted batch job (\d+)$", done.stdout, re.MULTILINE)
    assert (len(numbers), done.returncode) == (2, 0), done
    for number in numbers:
        wait_for("JobState=COMPLETED", number, env, folder)
        assert "4 on " in (folder / f"slurm-{number}.out").read_text()
    launched, by_hand = (folder / "runs" / f"slurm-{number}" for number in numbers)
    assert [line["epoch"] for line in lines(launched)] == [1, 2, 3, 4, 5]
    assert load_model(launched).digest() == load_model(by_hand).digest()
