"""The launcher starts a job again that died, from its last checkpoint, as long as that gets it anywhere."""

import os
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job
from soak import Job as SoakJob
from soak import memory_of_its_own, soak
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model

HERE = Path(__file__).parent
OPTIONS = (
    "--data",
    "t.csv",
    "--epochs",
    "3",
    "--batch-size",
    "24",
    "--quiet",
    "--out",
    "run",
    "--checkpoint-every",
    "1",
    "steps",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_known_csv(tmp_path / "t.csv", *classified_rows(300))
    shutil.copy(HERE / "stop_at.py", tmp_path)
    return tmp_path


def launch(folder: Path, *arguments: str) -> Job:
    return run_job(None, "-m", "launch", "run", *arguments, *OPTIONS, cwd=folder)


def dying(folder: Path, step: str, restarts: int) -> Job:
    """A job of two ranks whose last one is killed at a step of each start."""
    return launch(folder, "-n", "2", "--max-restarts", str(restarts), "-m", "stop_at", step, "1", "SIGKILL")


def test_a_job_that_dies_is_started_again_until_it_is_done(folder: Path) -> None:
    job = dying(folder, "+9", 9)
    assert job.status == 0, job.err
    notes = [line for line in job.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 3, "30 steps, of which a start makes 9, and loses none"
    assert notes[0].startswith("note: the job died with status 9; restart 1 of 9 from step-000000000")
    undisturbed = run_job(2, "-m", "ddp_numpy.train", *OPTIONS, "--out", "whole", cwd=folder)
    assert undisturbed.status == 0
    params, expected = (load_model(folder / out / "model.npz").params for out in ("run", "whole"))
    np.testing.assert_array_equal(params, expected)


def test_restarts_are_used_up(folder: Path) -> None:
    job = dying(folder, "+9", 1)
    assert job.status == 9
    assert (
        job.error_lines[-1] == "error: the job died with status 9, and all 1 restarts are used up; see --max-restarts"
    )


def test_restarts_end_where_no_checkpoint_is_made_between_deaths(folder: Path) -> None:
    job = dying(folder, "+0", 9)
    assert job.status == 9
    assert job.err.count("note: the job died with status 9; restart 1 of 9 from the start") == 1
    assert "error: the job died with status 9 again with no checkpoint in between" in job.error_lines[-1]


def test_each_start_has_its_own_logs(folder: Path) -> None:
    (folder / "dies.py").write_text(
        "import os, signal\nfrom ddp_numpy import world\nworld()\nprint('evidence', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    job = launch(folder, "-n", "2", "--max-restarts", "9", "--log-dir", "logs", "-m", "dies")
    assert job.status == 9
    written = {str(path.relative_to(folder / "logs")): path.read_text() for path in (folder / "logs").rglob("*.log")}
    names = {f"{start}rank-{rank}.log" for start in ("", "restart-1/") for rank in (0, 1)}
    assert set(written) == names, "it died twice before its --out was there: not all restarts are spent"
    assert any("evidence" in text for name, text in written.items() if "restart" not in name)


DIES_ONCE = (
    "import sys\nfrom pathlib import Path\n"
    "sys.argv[1:1] = ['1000000' if Path('stopped').exists() else '13', '0', 'SIGKILL']\nimport stop_at\n"
)


def test_a_death_before_its_own_first_checkpoint_starts_again_from_the_run_that_was_asked_for(folder: Path) -> None:
    (folder / "dies_once.py").write_text(DIES_ONCE)
    old = ("--data", "t.csv", "--batch-size", "24", "--quiet", "--lr", "0.05", "--epochs", "1", "--out", "old")
    assert run_job(None, "-m", "ddp_numpy.train", *old, cwd=folder).status == 0
    resumed = ("--resume", "old", "--epochs", "3", "--quiet", "--checkpoint-every", "2", "epochs")
    job = run_job(None, "-m", "launch", "run", "-n", "2", "--max-restarts", "2", "-m", "dies_once",
                  *resumed, "--out", "new", cwd=folder)  # fmt: skip
    assert job.status == 0, job.err
    assert "restart 1 of 2 from old\n" in job.err
    assert run_job(2, "-m", "ddp_numpy.train", *resumed, "--out", "whole", cwd=folder).status == 0
    assert tomllib.loads((folder / "new" / "config.toml").read_text())["lr"] == 0.05
    params, expected = (load_model(folder / out / "model.npz").params for out in ("new", "whole"))
    np.testing.assert_array_equal(params, expected)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--max-restarts", "2", "--lr", "-1"), 2, "lr"),  # the user's mistake
        (("--max-restarts", "2", "-m", "stop_at", "5", "0", "SIGTERM"), 75, "asked to stop"),
    ],
)
def test_what_starting_again_would_not_change_is_not_started_again(
    arguments: tuple[str, ...], status: int, words: str, folder: Path
) -> None:
    job = launch(folder, "-n", "2", *arguments)
    assert job.status == status
    assert words in job.error_lines[0]
    assert "restart" not in job.err


def test_restarts_need_a_folder(folder: Path) -> None:
    job = run_job(None, "-m", "launch", "run", "-n", "2", "--max-restarts", "1", "--epochs", "1", cwd=folder)
    assert job.status == 2
    assert "--max-restarts: give the job an --out" in job.error_lines[0]


@pytest.mark.slow
def test_killed_ranks_at_random_moments_change_nothing() -> None:
    assert soak(kills=20, seed=7, ranks=2) == []


# Rank 1, as it starts, leaves a file in shared memory, which no launcher takes for one of MPI's.
LEAVES_A_FILE = (
    "import os\nif os.environ.get('PMI_RANK') == '1' and not os.path.exists('/dev/shm/left'):\n"
    "    open('/dev/shm/left', 'w').close()\n"
)


@pytest.mark.parametrize("leaves", [True, False])
def test_the_soak_tells_what_its_job_leaves_in_shared_memory_from_what_others_do(
    leaves: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not memory_of_its_own():
        pytest.skip("shared memory of a job's own needs unshare (util-linux), and root or user namespaces")
    if leaves:
        (tmp_path / "sitecustomize.py").write_text(LEAVES_A_FILE)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    job = SoakJob(2, tmp_path / "run")
    of_another_job = Path("/dev/shm", f"mpich_shm_{tmp_path.name}_{os.getpid()}")
    try:
        with of_another_job.open("w"):  # who has it open keeps all launchers from removing it
            problem, said = job.end()
            assert of_another_job.exists()
    finally:
        of_another_job.unlink(missing_ok=True)
    assert problem == ("left in shared memory: left" if leaves else None), said
    assert job.shared_memory is not None
    assert not job.shared_memory.exists()


def test_four_ranks_then_three_then_one(folder: Path) -> None:
    whole = ("--data", "t.csv", "--epochs", "3", "--batch-size", "24", "--quiet", "--dtype", "float64")
    assert run_job(None, "-m", "ddp_numpy.train", *whole, "--out", "whole", cwd=folder).status == 0
    every = ("--checkpoint-every", "1", "steps", "--out", "run")
    assert run_job(None, "-m", "launch", "run", "-n", "4", "-m", "stop_at", "5", "3", "SIGKILL", *whole, *every,
                   cwd=folder).status == 9  # fmt: skip
    resumed = ("--resume", "auto", "--quiet", "--out", "run")
    job = run_job(None, "-m", "launch", "run", "-n", "3", "-m", "stop_at", "9", "1", "SIGUSR1", *resumed, cwd=folder)
    assert job.status == 75, job.err
    assert run_job(None, "-m", "ddp_numpy.train", *resumed, cwd=folder).status == 0
    parts, expected = (load_model(folder / out / "model.npz").params for out in ("run", "whole"))
    assert np.abs(parts - expected).max() <= 1e-12 * np.abs(expected).max()
