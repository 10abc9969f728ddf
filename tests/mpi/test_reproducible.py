"""--reproducible: the same weights and metrics to the last bit, on any number of ranks, however their sums travel."""

import json
from pathlib import Path

import pytest
from jobs import openmpi_python, run_job, train
from tables import classified_rows, write_csv

from ddp_numpy import load_model

# 331 rows, of which 265 train: a last batch of 9 rows for batches of 64, of 6 for batches of 7.
OPTIONS = ("--data", "t.csv", "--epochs", "2", "--lr", "0.1", "--momentum", "0.9", "--clip-norm", "1", "--reproducible")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_csv(tmp_path / "t.csv", *classified_rows(331, features=50, classes=5))
    return tmp_path


def result(folder: Path, out: str) -> tuple[str, list[tuple[float, ...]]]:
    """SHA-256 of the weights, and all metrics that are no times."""
    lines = [json.loads(line) for line in (folder / out / "metrics.jsonl").read_text().splitlines()]
    names = ("train_loss", "train_accuracy", "valid_loss", "valid_accuracy")
    return load_model(folder / out / "model.npz").digest(), [tuple(line[name] for name in names) for line in lines]


@pytest.mark.parametrize(
    "options",
    [
        ("--batch-size", "64"),
        ("--batch-size", "7"),  # a micro-shard a batch: all ranks but one have none
        ("--batch-size", "64", "--micro-rows", "5", "--dtype", "float64"),
    ],
)
def test_the_same_bits_on_any_number_of_ranks(options: tuple[str, ...], folder: Path) -> None:
    assert train(None, *OPTIONS, *options, "--out", "0", cwd=folder).status == 0
    expected = result(folder, "0")
    for ranks, comm in ((1, "auto"), (2, "auto"), (3, "auto"), (3, "allreduce"), (5, "auto")):
        out = f"{ranks}-{comm}"
        assert train(ranks, *OPTIONS, *options, "--comm", comm, "--out", out, cwd=folder).status == 0
        assert result(folder, out) == expected, f"{ranks} ranks, {comm}"


def test_the_same_bits_with_another_mpi(folder: Path) -> None:
    assert train(None, *OPTIONS, "--out", "0", cwd=folder).status == 0
    command = ("-m", "launch", "run", "-n", "3", *OPTIONS, "--out", "open-mpi")
    job = run_job(None, *command, cwd=folder, python=openmpi_python())
    assert job.status == 0, job.err
    assert result(folder, "open-mpi") == result(folder, "0")


def test_it_trains_what_the_fast_way_does(folder: Path) -> None:
    fast = [word for word in OPTIONS if word != "--reproducible"]
    for out, options in (("exact", OPTIONS), ("fast", fast)):
        assert train(None, *options, "--dtype", "float64", "--out", out, cwd=folder).status == 0
    exact, fast_params = (load_model(folder / out / "model.npz").params for out in ("exact", "fast"))
    # Each gradient is off by 2^-41 a micro-shard at most: 10 steps of 4 micro-shards, kept by momentum.
    assert abs(exact - fast_params).max() < 1e-10
    assert abs(exact - fast_params).max() > 0, "two ways, not one"


@pytest.mark.parametrize("ranks", [None, 3])
def test_what_the_grid_has_no_room_for_is_named(ranks: int | None, folder: Path) -> None:
    job = train(ranks, *OPTIONS, "--divisor", "1e-6", "--out", "out", cwd=folder)
    assert (job.status, len(job.error_lines)) == (1, 1)
    words = (
        "error: the gradient of W of layer 1 (Dense) is not a finite number below 2048, the most that adds up exactly,"
    )
    assert job.error_lines[0].startswith(f"{words} in epoch 1, step 1, at learning rate 0.1")


def test_four_ranks_killed_then_three_then_one(folder: Path) -> None:
    stop_at = Path(__file__).parents[1] / "faults" / "stop_at.py"
    (folder / "stop_at.py").write_bytes(stop_at.read_bytes())
    assert train(None, *OPTIONS, "--out", "whole", cwd=folder).status == 0
    every = ("--checkpoint-every", "1", "steps", "--out", "parts")
    launch = ("-m", "launch", "run", "-m", "stop_at", "-n")
    assert run_job(None, *launch, "4", "3", "3", "SIGKILL", *OPTIONS, *every, cwd=folder).status == 9
    resumed = ("--resume", "auto", "--out", "parts", "--quiet")
    assert run_job(None, *launch, "3", "7", "0", "SIGUSR1", *resumed, cwd=folder).status == 75
    assert train(None, *resumed, cwd=folder).status == 0
    assert result(folder, "parts") == result(folder, "whole")


@pytest.mark.parametrize(("batch", "micro_rows", "idle"), [(64, 16, 1), (300, 38, 0), (4096, 128, 0)])
def test_the_default_micro_rows_go_by_the_batch(batch: int, micro_rows: int, idle: int, folder: Path) -> None:
    job = train(5, *OPTIONS, "--batch-size", str(batch), "--out", "out", cwd=folder)
    assert job.status == 0, job.err
    assert f"reproducible, in micro-shards of {micro_rows} rows\n" in job.out
    assert f"micro-rows = {micro_rows}\n" in (folder / "out" / "config.toml").read_text()
    words = f"warning: {idle} of 5 ranks have nothing to do, as a batch of {batch} rows has 4 micro-shards of 16;"
    assert (words in job.err) == (idle > 0)


def test_another_blas_kernel_is_a_warning(folder: Path) -> None:
    assert train(None, *OPTIONS, "--out", "out", cwd=folder).status == 0
    env = {"OPENBLAS_CORETYPE": "Nehalem"}
    job = run_job(None, "-m", "ddp_numpy.train", "--resume", "out", "--epochs", "3", cwd=folder, env=env)
    assert job.status == 0, job.err
    assert "warning: out/checkpoints/step-" in job.err
    assert "(Nehalem): the last bits may not be those that the run would have had" in job.err
