"""A run that is stopped and resumed ends where it would have ended."""

import datetime
import json
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job, train
from several import Command, train_several
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model

HERE = Path(__file__).parent
OPTIONS = ("--epochs", "3", "--batch-size", "24", "--lr", "0.05", "--momentum", "0.9", "--clip-norm", "2", "--quiet")
EPOCH_STEPS = 10  # 300 rows, of which 240 train


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_known_csv(tmp_path / "table.csv", *classified_rows(300))


def stop(ranks: int | None, step: int, *options: str | Path, cwd: Path, name: str = "SIGUSR1") -> Job:
    """A training whose last rank gets a signal in the middle of a step."""
    return run_job(ranks, HERE / "stop_at.py", str(step), str((ranks or 1) - 1), name, *options, cwd=cwd)


def stopped(ranks: int | None, step: int, *options: str | Path, cwd: Path, name: str = "SIGUSR1") -> Job:
    job = stop(ranks, step, *options, cwd=cwd, name=name)
    assert job.status == 75, job.err
    return job


def params(folder: Path) -> np.ndarray:
    return load_model(folder / "model.npz").params


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("images_per_second", "seconds", "waiting")} for line in lines]


Stop = tuple[int | None, int, str]
"""Of how many ranks, in which step, and with which exchange."""
STOPS: list[Stop] = [
    (None, 13, "auto"),
    (2, 0, "auto"),
    (2, EPOCH_STEPS - 1, "auto"),
    (2, 13, "auto"),
    (3, EPOCH_STEPS, "auto"),
    (3, 13, "auto"),
    (3, 13, "factors"),
    (2, 12, "slices"),
]


@dataclass
class Runs:
    """How runs were stopped and resumed, their folders, and those of runs that nothing stopped."""

    stops: dict[Stop, Job]
    resumes: dict[Stop, Job]
    parts: dict[Stop, Path]
    whole: dict[tuple[int | None, str], Path]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Each is stopped in a job of its own. One job for each number of ranks resumes them, and trains the others."""
    table = write_known_csv(tmp_path_factory.mktemp("data") / "table.csv", *classified_rows(300))
    runs = Runs({}, {}, {}, {})
    for ranks in (None, 2, 3):
        commands: dict[str, Command] = {}
        stops = [one for one in STOPS if one[0] == ranks]
        for one in stops:
            _, step, exchange = one
            options = ("--data", table, *OPTIONS, "--exchange", exchange)
            folder = tmp_path_factory.mktemp("runs")
            runs.stops[one] = stop(ranks, step, *options, "--out", "parts", cwd=folder)
            runs.parts[one], runs.whole[ranks, exchange] = folder / "parts", folder / "whole"
            commands[str(one)] = (folder, ("--resume", "auto", "--out", "parts", "--quiet"))
            commands[exchange] = (folder, (*options, "--out", "whole"))
        jobs = train_several(ranks, commands)
        runs.resumes |= {one: jobs[str(one)] for one in stops}
    return runs


@pytest.mark.parametrize(("ranks", "step", "exchange"), STOPS)
def test_bit_for_bit_at_the_same_number_of_ranks(ranks: int | None, step: int, exchange: str, runs: Runs) -> None:
    one = (ranks, step, exchange)
    assert runs.stops[one].status == 75, runs.stops[one].err
    epoch, in_epoch = divmod(step, EPOCH_STEPS)
    said = f"stopped after epoch {epoch + 1}, step {in_epoch + 1}. Go on with --resume auto --out parts"
    assert said in runs.stops[one].err
    assert runs.resumes[one].status == 0, runs.resumes[one].err
    parts, whole = runs.parts[one], runs.whole[ranks, exchange]
    np.testing.assert_array_equal(params(parts), params(whole))
    assert metrics(parts) == metrics(whole)
    assert not list(parts.rglob(".*"))
    assert not list(parts.glob("abandoned-*")), "it went on, and not back"


def test_all_that_has_state_is_resumed_on_other_numbers_of_ranks(table: Path, tmp_path: Path) -> None:
    options = ("--data", table, "--epochs", "20", "--batch-size", "24", "--quiet", "--reproducible",
               "--micro-rows", "4", "--accumulate", "2",
               "--schedule", "plateau", "--patience", "1", "--min-delta", "0.05", "--lr", "0.01",
               "--warm-up", "2", "epochs", "--early-stopping", "3", "--average", "0.9", "--optimizer", "adamw",
               "--clip-norm", "1")  # fmt: skip
    assert train(None, *options, "--out", "whole", cwd=tmp_path).status == 0
    stopped(3, 43, *options, "--out", "parts", cwd=tmp_path)
    assert train(2, "--resume", "auto", "--out", "parts", "--quiet", cwd=tmp_path).status == 0
    found = metrics(tmp_path / "parts")
    assert found == metrics(tmp_path / "whole")
    assert 4 < len(found) < 20, "it ended early, and behind the stop"
    assert found[-1]["lr"] < found[2]["lr"], "and the rate was reduced before"
    np.testing.assert_array_equal(params(tmp_path / "parts"), params(tmp_path / "whole"))
    again = train(None, "--resume", "auto", "--out", "parts", cwd=tmp_path)
    assert f"ended after epoch {len(found)}: 3 epochs without a validation loss lower by more than 0.05" in again.out


def test_ctrl_c_says_how_to_go_on_as_sigterm_does(table: Path, tmp_path: Path) -> None:
    job = stopped(2, 13, "--data", table, *OPTIONS, "--out", "parts", cwd=tmp_path, name="SIGINT")
    assert job.error_lines == [
        "error: asked to stop, and stopped after epoch 2, step 4. Go on with --resume auto --out parts"
    ]
    assert (tmp_path / "parts" / "checkpoints" / "step-0000000014.npz").exists()


@pytest.mark.parametrize("ranks", [None, 2])
def test_a_second_ctrl_c_ends_at_once(ranks: int | None, table: Path, tmp_path: Path) -> None:
    job = run_job(
        ranks, HERE / "stop_at.py", "13", "0", "SIGINT,SIGINT", "--data", table, *OPTIONS, "--out", "run", cwd=tmp_path
    )
    assert job.status == 130
    assert "Traceback" not in job.err


@pytest.mark.parametrize("module", ["numpy", "click", "ddp_numpy.training.trainer"])
def test_ctrl_c_during_the_imports_is_no_traceback(module: str, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        f"        if name == {module!r}: os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    env = {"PYTHONPATH": str(tmp_path)}
    job = run_job(None, "-m", "ddp_numpy.train", "--epochs", "1", cwd=tmp_path, env=env)
    assert (job.status, job.err) == (-signal.SIGINT, "")


def test_to_rounding_on_other_numbers_of_ranks(table: Path, tmp_path: Path) -> None:
    options = ("--data", table, *OPTIONS, "--dtype", "float64")
    assert train(None, *options, "--out", "whole", cwd=tmp_path).status == 0
    stopped(4, 7, *options, "--out", "parts", cwd=tmp_path, name="SIGTERM")
    stopped(3, 18, "--resume", "parts", "--quiet", cwd=tmp_path)
    assert train(None, "--resume", "parts", "--quiet", cwd=tmp_path).status == 0
    expected = params(tmp_path / "whole")
    assert np.abs(params(tmp_path / "parts") - expected).max() <= 1e-12 * np.abs(expected).max()


def test_steps_between_checkpoints_are_made_again(table: Path, tmp_path: Path) -> None:
    options = ("--data", table, *OPTIONS, "--checkpoint-every", "4", "steps")
    assert train(2, *options, "--out", "whole", cwd=tmp_path).status == 0
    job = run_job(2, HERE / "stop_at.py", "17~", "1", "SIGKILL", *options, "--out", "parts", cwd=tmp_path)
    assert job.status not in (0, 75)
    job = train(2, "--resume", "auto", "--out", "parts", cwd=tmp_path)
    assert job.status == 0
    (epoch, step) = re.search(r"resumed +after epoch (\d), step (\d)", job.out).groups()  # type: ignore[union-attr]
    # A multiple of 4 in all, or the end of an epoch, which is written down where it was the best so far.
    assert int(step) == 0 or int(step) % 4 == 2 * int(epoch) % 4
    np.testing.assert_array_equal(params(tmp_path / "parts"), params(tmp_path / "whole"))
    assert metrics(tmp_path / "parts") == metrics(tmp_path / "whole")


def test_epochs_may_grow_and_a_finished_run_is_finished(table: Path, runs: Runs, tmp_path: Path) -> None:
    options = ("--data", table, *OPTIONS)
    assert train(None, *options, "--epochs", "2", "--out", "parts", cwd=tmp_path).status == 0
    assert train(None, "--resume", "parts", "--epochs", "3", "--quiet", cwd=tmp_path).status == 0
    np.testing.assert_array_equal(params(tmp_path / "parts"), params(runs.whole[None, "auto"]))
    assert train(None, "--resume", "parts", "--quiet", cwd=tmp_path).status == 0
    assert len(metrics(tmp_path / "parts")) == 3


def test_going_on_in_another_folder_leaves_the_first_alone(table: Path, tmp_path: Path) -> None:
    stopped(None, 13, "--data", table, *OPTIONS, "--out", "a", cwd=tmp_path)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    (checkpoint,) = (tmp_path / "a" / "checkpoints").glob("step-*14.npz")
    assert train(None, "--resume", checkpoint, "--out", "b", "--quiet", cwd=tmp_path).status == 0
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert [line["epoch"] for line in metrics(tmp_path / "b")] == [2, 3]


def test_what_would_change_the_result_is_refused_and_named(table: Path, tmp_path: Path) -> None:
    stopped(None, 13, "--data", table, *OPTIONS, "--out", "run", cwd=tmp_path)
    other = write_known_csv(tmp_path / "other.csv", *classified_rows(301))
    kept = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    changes = {
        ("--seed", "2"): "--seed was 1, now 2",
        ("--batch-size", "25"): "--batch-size was 24, now 25",
        ("--hidden", "12"): "model was",
        ("--lr", "0.5"): "--lr was 0.05, now 0.5",
        ("--momentum", "0"): "--momentum was 0.9, now 0",
        ("--dtype", "float64"): "--dtype was float32, now float64",
        ("--data", str(other)): "SHA-256 of the training rows was",
        ("--epochs", "1"): "is in epoch 2 already; raise --epochs from 1",
    }
    jobs = train_several(2, {words: (tmp_path, ("--resume", "run", *change)) for change, words in changes.items()})
    for words, job in jobs.items():
        assert job.status == 2
        (line,) = job.error_lines
        assert words in line
        assert "run/checkpoints/step-0000000014.npz" in line
    assert kept == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(table: Path, tmp_path: Path) -> None:
    options = ("--data", table, *OPTIONS)
    assert train(None, *options, "--out", "run", cwd=tmp_path).status == 0
    expected = params(tmp_path / "run")
    (tmp_path / "run" / "model.npz").unlink()
    newest, *older = sorted((tmp_path / "run" / "checkpoints").glob("step-*.npz"), reverse=True)
    newest.write_bytes(newest.read_bytes()[:-1000])
    job = train(2, "--resume", "auto", "--out", "run", cwd=tmp_path)
    assert job.status == 0
    assert f"warning: run/checkpoints/{newest.name}: damaged" in job.err
    assert f"from run/checkpoints/{older[0].name}" in job.out
    (aside,) = (tmp_path / "run").glob("abandoned-*")
    epoch = int(older[0].stem[5:]) // EPOCH_STEPS  # 2, unless the disk was too slow for that checkpoint
    assert f"warning: run: goes on after epoch {epoch}, step 0; run/{aside.name} keeps the later" in job.err
    assert newest.name in {path.name for path in aside.iterdir()}
    assert [line["epoch"] for line in metrics(aside)] == list(range(epoch + 1, 4))
    np.testing.assert_allclose(params(tmp_path / "run"), expected, atol=1e-4)
    for path in (tmp_path / "run" / "checkpoints").glob("*.npz"):
        path.write_bytes(b"")
    for resume, words in (("auto", "no checkpoint there is whole"), (str(newest), "damaged")):
        job = train(None, "--resume", resume, "--out", "run", cwd=tmp_path)
        assert (job.status, len(job.error_lines)) == (2, 1)
        assert words in job.error_lines[0]


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("--resume", "auto"), "give the --out of the run"),
    (("--resume", "nowhere"), "nowhere: No such file"),
    (("--resume", "."), "has no checkpoints to go on from"),
    (("--resume", ""), "--resume: an empty path"),
    (("--resume", "auto", "--out", "."), ".: not empty, and without the run.json of a run"),
    (("--resume", "x" * 300), "File name too long"),
    (("--out", ""), "'' is not a path"),
    (("--out", "x" * 300), "can't write there: File name too long"),
    (("--out", "table.csv/x"), "can't write there: Not a directory"),
    (("--resume", "table.csv"), "table.csv: damaged, or not a checkpoint"),
    (("--checkpoint-every", "0", "steps"), "checkpoint-every"),
    (("--checkpoint-every", "2", "hours"), "checkpoint-every"),
    (("--keep", "0"), "keep"),
    (("--keep", "some"), "keep"),
    (("--momentum", "1"), "momentum"),
]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Job, Path]]:
    """How the mistakes ended, and their folders. One process makes them all."""
    commands = {}
    for options, _ in MISTAKES:
        folder = tmp_path_factory.mktemp("mistake")
        write_known_csv(folder / "table.csv", *classified_rows(300))
        commands[" ".join(options)] = (folder, options)
    jobs = train_several(None, commands)
    return {name: (jobs[name], folder) for name, (folder, _) in commands.items()}


@pytest.mark.parametrize(("options", "words"), MISTAKES)
def test_mistakes(options: tuple[str, ...], words: str, mistaken: dict[str, tuple[Job, Path]]) -> None:
    job, folder = mistaken[" ".join(options)]
    assert (job.status, len(job.error_lines)) == (2, 1)
    assert words in job.error_lines[0]
    assert [path.name for path in folder.iterdir()] == ["table.csv"]


def test_two_jobs_in_one_folder(table: Path, tmp_path: Path) -> None:
    options = ("--data", table, "--out", "run", "--quiet")
    command = [sys.executable, "-m", "ddp_numpy.train", *options, "--epochs", "1000000"]
    with subprocess.Popen(command, cwd=tmp_path) as first:
        try:
            while not list((tmp_path / "run").glob("checkpoints/step-*")):
                assert first.poll() is None
                time.sleep(0.05)
            for more in ((), ("--resume", "auto")):
                job = train(2, *options, *more, "--epochs", "1000001", cwd=tmp_path)
                assert (job.status, len(job.error_lines)) == (2, 1)
                assert f"run: another job writes there: process {first.pid} on " in job.error_lines[0]
        finally:
            first.terminate()
    assert first.returncode == 75


@pytest.mark.parametrize(("stop", "status"), [(False, 0), (True, 75)])
def test_checkpoints_and_warnings_that_find_no_space_block_nothing(
    stop: bool, status: int, table: Path, small_disk: Path
) -> None:
    every = ("--checkpoint-every", "1", "steps", "--keep", "all", "--momentum", "0.9", "--hidden", "120,120", "--quiet")
    epochs = ("--epochs", "1000000" if stop else "3")
    (small_disk / "filler").write_bytes(bytes(160 << 10))  # there is space for the model, but not for a checkpoint
    command = [sys.executable, "-m", "ddp_numpy.train", "--data", table, *every, *epochs, "--out", "run"]
    with open("/dev/full", "w") as full, subprocess.Popen(command, cwd=small_disk, stderr=full) as job:
        try:
            deadline = time.monotonic() + 30
            while stop and not (small_disk / "run" / "metrics.jsonl").exists():
                assert job.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            if stop:
                job.terminate()
            assert job.wait(30) == status
        finally:
            job.kill()
    assert not list((small_disk / "run" / "checkpoints").iterdir())
    assert (small_disk / "run" / "model.npz").exists() != stop


def test_a_checkpoint_from_elsewhere_goes_on_in_a_new_folder(table: Path, tmp_path: Path) -> None:
    stopped(None, 13, "--data", table, *OPTIONS, "--out", "run", cwd=tmp_path)
    theirs = tmp_path / "project"
    (theirs / "checkpoints").mkdir(parents=True)
    (theirs / "Downloads").mkdir()
    for name in ("config.toml", "model.npz", "metrics.jsonl", "checkpoints/step-0000000007.npz", ".secret.tmp"):
        (theirs / name).write_bytes(b"mine")
    checkpoint = tmp_path / "run" / "checkpoints" / "step-0000000014.npz"
    (theirs / "Downloads" / "best.npz").write_bytes(checkpoint.read_bytes())
    before = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file()}
    job = train(2, "--resume", "Downloads/best.npz", "--keep", "1", cwd=theirs)
    assert job.status == 0, job.err
    (folder,) = (theirs / "runs").iterdir()
    assert f"output    runs/{folder.name}" in job.out
    after = {path: path.read_bytes() for path in theirs.rglob("*") if path.is_file() and folder not in path.parents}
    assert after == before


def test_each_start_is_noted_with_its_ranks_and_its_command(table: Path, tmp_path: Path) -> None:
    stopped(None, 13, "--data", table, *OPTIONS, "--out", "a run", cwd=tmp_path)
    assert train(2, "--resume", "a run", "--quiet", cwd=tmp_path).status == 0
    noted = json.loads((tmp_path / "a run" / "run.json").read_text())
    assert noted["format"] == "ddp_numpy run 1"
    first, second = noted["starts"]
    assert (first["ranks"], first["mpi"], first["epoch"], first["step"]) == (1, None, 0, 0)
    assert (second["ranks"], second["epoch"], second["step"]) == (2, 1, 4)
    assert "MPICH" in second["mpi"]
    assert second["command"] == "python -m ddp_numpy.train --resume 'a run' --quiet"
    assert second["hosts"] == [socket.gethostname()]
    assert second["versions"]["numpy"] == np.__version__
    assert all(second["versions"].values())
    assert second["cpu"]
    assert "BLAS" in second["blas"] or "MKL" in second["blas"]
    assert datetime.datetime.fromisoformat(first["time"]) <= datetime.datetime.fromisoformat(second["time"])


def test_auto_begins_where_there_is_nothing_yet(table: Path, tmp_path: Path) -> None:
    options = ("--data", table, *OPTIONS, "--resume", "auto", "--out", "run")
    assert train(None, *options, cwd=tmp_path).status == 0
    assert len(metrics(tmp_path / "run")) == 3


@pytest.mark.parametrize(("ranks", "exchange"), [(None, "auto"), (3, "auto"), (3, "factors"), (3, "slices")])
def test_numbers_gone_bad_stop_every_rank_before_the_update(
    ranks: int | None, exchange: str, table: Path, tmp_path: Path
) -> None:
    bad = ("--data", table, "--lr", "1e6", "--batch-size", "24", "--checkpoint-every", "1", "steps")
    bad += ("--exchange", exchange, "--out", "run")
    clipped = (*bad[:-1], "clipped", "--lr", "0.1", "--clip-norm", "0.5", "--epochs", "3")
    jobs = train_several(ranks, {"bad": (tmp_path, bad), "clipped": (tmp_path, clipped)})
    job = jobs["bad"]
    assert (job.status, len(job.error_lines)) == (1, 1)
    found = re.search(r"not a finite number in epoch (\d+), step (\d+), at learning rate 1e\+06", job.error_lines[0])
    assert found is not None
    step = EPOCH_STEPS * (int(found[1]) - 1) + int(found[2])
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*.npz"))
    assert newest.name == f"step-{step - 1:010d}.npz", "what the steps before came to"
    with np.load(newest) as arrays:
        assert np.isfinite(arrays["params"]).all()
    assert jobs["clipped"].status == 0, jobs["clipped"].err
