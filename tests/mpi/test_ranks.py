"""The promise: the number of ranks never changes the result."""

import json
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job, train
from tables import classified_rows, write_csv

from ddp_numpy import load_model

HERE = Path(__file__).parent
# 560 rows: 451 to train, which leaves a last batch of 3 rows for batches of 64 and of 7; 112 - 3 to validate.
ROWS, TRAIN_ROWS, VALID_ROWS, VALID_FRACTION = 560, 451, 109, 0.195
TOLERANCE = {"float64": 1e-12, "float32": 1e-4}


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_csv(tmp_path_factory.mktemp("data") / "table.csv", *classified_rows(ROWS, features=30, classes=5))


def result(job: Job, folder: Path) -> tuple[np.ndarray, list[dict[str, float]]]:
    assert job.status == 0, job.err
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return load_model(folder / "model.npz").params, [json.loads(line) for line in lines]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("batch", [64, 7])
def test_any_number_of_ranks_trains_the_same_weights(table: Path, batch: int, dtype: str, tmp_path: Path) -> None:
    options = ["--data", table, "--valid-fraction", VALID_FRACTION, "--epochs", 2, "--lr", 0.1]
    options += ["--batch-size", batch, "--dtype", dtype, "--quiet"]

    def run(ranks: int | None) -> tuple[np.ndarray, list[dict[str, float]]]:
        folder = tmp_path / str(ranks)
        return result(train(ranks, *map(str, options), "--out", folder, cwd=tmp_path), folder)

    expected, expected_metrics = run(None)  # without mpirun
    for ranks in (1, 2, 3, 4, 5):
        params, metrics = run(ranks)
        assert params.dtype == dtype
        assert np.abs(params - expected).max() <= TOLERANCE[dtype] * np.abs(expected).max(), f"{ranks} ranks"
        for ours, theirs in zip(metrics, expected_metrics, strict=True):
            # Counts are exact: accuracies are multiples of 1 / rows, and equal.
            assert ours["valid_accuracy"] == theirs["valid_accuracy"]
            assert ours["train_accuracy"] == theirs["train_accuracy"]
            assert ours["valid_loss"] == pytest.approx(theirs["valid_loss"], rel=TOLERANCE[dtype])
            assert ours["train_loss"] == pytest.approx(theirs["train_loss"], rel=TOLERANCE[dtype])


def test_the_test_above_has_a_last_batch_smaller_than_the_ranks() -> None:
    assert ROWS - round(VALID_FRACTION * ROWS) == TRAIN_ROWS
    assert TRAIN_ROWS % 64 == TRAIN_ROWS % 7 == 3


@pytest.mark.parametrize("ranks", [1, 3, 5])
def test_every_row_is_trained_on_once_an_epoch(ranks: int, table: Path, tmp_path: Path) -> None:
    job = run_job(ranks, HERE / "seen_rows.py", table, str(VALID_FRACTION), cwd=tmp_path)
    assert job.status == 0, job.err
    seen = json.loads(job.out)
    assert len(seen["epochs"]) == 2
    for rows in seen["epochs"]:
        assert sorted(rows) == list(range(TRAIN_ROWS))
    assert seen["evaluated"] == VALID_ROWS
    assert seen["correct"] == seen["correct_by_prediction"]


@pytest.mark.parametrize(
    ("rank", "array", "words"),
    [
        (0, "params", "b of layer 3 (Dense) on rank 0"),  # which the others compare theirs with
        (2, "params", "b of layer 3 (Dense) on rank 2"),
        (2, "optimizer.velocity", "b of layer 3 (Dense) on rank 2, velocity of b of layer 3 (Dense) on rank 2"),
    ],
)
def test_replicas_that_come_apart_stop_the_job(rank: int, array: str, words: str, table: Path, tmp_path: Path) -> None:
    job = run_job(4, HERE / "flipped_bit.py", table, str(rank), array, cwd=tmp_path)
    assert job.status == 1
    assert job.error_lines == [
        f"error: in epoch 1, after step 4, ranks no longer hold the same: {words} differs from the other 3 ranks: "
        "suspect the memory of that host, or its MPI library"
    ]
    assert "step 3" in job.out
    assert "step 4" not in job.out, "nothing is done with it, no checkpoint written"


def test_more_ranks_than_rows_in_any_batch(tmp_path: Path) -> None:
    small = write_csv(tmp_path / "small.csv", *classified_rows(9, features=5, classes=2))
    options = ["--data", small, "--epochs", "3", "--batch-size", "2", "--dtype", "float64"]
    for ranks in (1, 5):
        assert train(ranks, *options, "--out", tmp_path / str(ranks), cwd=tmp_path).status == 0
    alone, together = (load_model(tmp_path / str(ranks) / "model.npz").params for ranks in (1, 5))
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_all_ranks_start_from_the_weights_of_rank_0(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        "import numpy as np\n"
        "from ddp_numpy import SGD, Dataset, Dense, Sequential, Trainer, world\n"
        "comm = world()\n"
        "model = Sequential(Dense(2))\n"
        "model.build((3,))\n"
        "model.params[:] = comm.rank + 1\n"
        "data = Dataset(np.zeros((4, 3), np.uint8), np.array([0, 1, 0, 1]), 2, 255.0)\n"
        "Trainer(model, SGD(), comm).prepare(data)\n"
        "assert (model.params == 1).all(), model.params\n"
    )
    job = run_job(3, "start.py", cwd=tmp_path)
    assert job.status == 0, job.err
