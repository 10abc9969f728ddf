"""The promise: the number of ranks never changes the result."""

import json
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job
from several import train_several
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model
from ddp_numpy.base.threads import describe_blas

HERE = Path(__file__).parent
# 280 rows: 227 to train, which leaves a last batch of 3 rows for batches of 32 and of 7; 53 to validate.
ROWS, TRAIN_ROWS, VALID_ROWS, VALID_FRACTION = 280, 227, 53, 0.19
TOLERANCE = {"float64": 1e-12, "float32": 1e-4}
BATCHES, DTYPES = (32, 7), ("float64", "float32")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_known_csv(
        tmp_path_factory.mktemp("data") / "table.csv", *classified_rows(ROWS, features=30, classes=5)
    )


@dataclass
class Training:
    """How a training ended, and the folder it wrote."""

    job: Job
    folder: Path

    def result(self) -> tuple[np.ndarray, list[dict[str, float]]]:
        """The weights, and what was measured of each epoch."""
        assert self.job.status == 0, self.job.err
        lines = (self.folder / "metrics.jsonl").read_text().splitlines()
        return load_model(self.folder / "model.npz").params, [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def trainings(table: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[int | None, str], Training]:
    """What jobs of every number of ranks trained, each of them with all the options that tests compare."""
    small = write_known_csv(table.with_name("small.csv"), *classified_rows(9, features=5, classes=2))
    common = ("--data", table, "--valid-fraction", VALID_FRACTION, "--epochs", 2, "--lr", 0.1, "--quiet")
    options: dict[str, Sequence[object]] = {
        f"{batch} {dtype}": (*common, "--batch-size", batch, "--dtype", dtype) for batch in BATCHES for dtype in DTYPES
    }
    options["small"] = ("--data", small, "--scale", "divide", "--epochs", 3, "--batch-size", 2, "--dtype", "float64")
    found = {}
    for ranks in (None, 1, 2, 3, 4, 5):  # None: without mpirun
        folders = {name: tmp_path_factory.mktemp("run") for name in options}
        jobs = train_several(
            ranks, {name: (folders[name], (*words, "--out", "out")) for name, words in options.items()}
        )
        found |= {(ranks, name): Training(job, folders[name] / "out") for name, job in jobs.items()}
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", BATCHES)
def test_any_number_of_ranks_trains_the_same_weights(
    trainings: dict[tuple[int | None, str], Training], batch: int, dtype: str
) -> None:
    expected, expected_metrics = trainings[None, f"{batch} {dtype}"].result()
    for ranks in (1, 2, 3, 4, 5):
        params, metrics = trainings[ranks, f"{batch} {dtype}"].result()
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
    assert TRAIN_ROWS % 32 == TRAIN_ROWS % 7 == 3


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


def test_more_ranks_than_rows_in_any_batch(trainings: dict[tuple[int | None, str], Training]) -> None:
    alone, together = (trainings[ranks, "small"].result()[0] for ranks in (1, 5))
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_all_ranks_start_from_the_weights_of_rank_0(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        "import numpy as np\n"
        "from ddp_numpy import SGD, Dataset, Dense, Scale, Sequential, Trainer, world\n"
        "comm = world()\n"
        "model = Sequential(Dense(2))\n"
        "model.build((3,))\n"
        "model.params[:] = comm.rank + 1\n"
        "data = Dataset(np.zeros((4, 3), np.uint8), np.array([0, 1, 0, 1]), 2, Scale(255.0))\n"
        "Trainer(model, SGD(), comm).prepare(data)\n"
        "assert (model.params == 1).all(), model.params\n"
    )
    job = run_job(3, "start.py", cwd=tmp_path)
    assert job.status == 0, job.err


@pytest.mark.parametrize("sums", [(), ("--reproducible",)])
def test_clipped_gradients_are_the_same_on_different_cpus(sums: tuple[str, ...], table: Path, tmp_path: Path) -> None:
    if "OpenBLAS" not in describe_blas() or platform.machine() != "x86_64":
        pytest.skip("only OpenBLAS can be told to take another CPU's kernel")
    options = ("--data", str(table), "--epochs", "2", "--lr", "0.5", "--clip-norm", "0.1", "--check-replicas", "1")
    options += ("--dtype", "float64")
    job = run_job(2, HERE / "other_kernels.py", *options, *sums, cwd=tmp_path)
    assert job.status == 0, job.err
    assert "(Haswell)" in job.out, "the kernel was chosen"


def test_ranks_that_would_come_apart_with_other_kernels_are_refused(table: Path, tmp_path: Path) -> None:
    if "OpenBLAS" not in describe_blas() or platform.machine() != "x86_64":
        pytest.skip("only OpenBLAS can be told to take another CPU's kernel")
    options = ("--data", table, "--comm", "allreduce", "--exchange", "factors")
    job = run_job(2, HERE / "other_kernels.py", *options, cwd=tmp_path)
    assert (job.status, len(job.error_lines)) == (2, 1)
    assert re.fullmatch(
        r"error: rank 1 multiplies with OpenBLAS \S+ \(Nehalem\), rank 0 with OpenBLAS \S+ \(Haswell\): nodes that "
        r"gather factors would come apart; give all the same kernel \(OPENBLAS_CORETYPE\), or use --exchange gradients",
        job.error_lines[0],
    ), job.err
    gradients = run_job(2, HERE / "other_kernels.py", *options[:-1], "gradients", "--epochs", "1", cwd=tmp_path)
    assert gradients.status == 0, gradients.err


def test_more_ranks_than_rows_is_a_warning(tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(9, features=5, classes=2))
    warnings = {
        (): "2 of 4 ranks take no rows, as a batch of 2 rows is cut into one row a rank; see --batch-size",
        ("--reproducible",): "3 of 4 ranks take no rows, as a batch of 2 rows has 1 micro-shard of 16; see "
        "--micro-rows and --batch-size",
    }
    common = ("--data", "t.csv", "--epochs", "1", "--batch-size", "2", "--quiet")
    commands = {str(more): (tmp_path, (*common, *more, "--out", str(len(more)))) for more in warnings}
    for job, warning in zip(train_several(4, commands).values(), warnings.values(), strict=True):
        assert (job.status, job.err) == (0, f"warning: {warning}\n")
