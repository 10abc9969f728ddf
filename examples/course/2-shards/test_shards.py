"""Tests of exercise 2, in the order in which to mend what they find."""

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from jobs import Job

from ddp_numpy.data import sampler

SHARES = [(rows, size) for rows in (0, 1, 2, 3, 8, 10, 64, 101) for size in (1, 2, 3, 4, 7)]


@pytest.mark.parametrize(("rows", "batch_size"), [(8, 4), (10, 4), (3, 4), (1, 1), (101, 64)])
def test_batches(exercise: ModuleType, rows: int, batch_size: int) -> None:
    """Batches cover all rows once, and only the last one is short."""
    cut = [np.arange(rows)[batch] for batch in exercise.batches(rows, batch_size)]
    counts, all_rows = [len(batch) for batch in cut], np.concatenate([np.arange(0), *cut])
    told = f"batches({rows}, {batch_size}) makes batches of {counts} rows"
    assert len(all_rows) >= rows, (
        f"{told}: {rows - len(all_rows)} rows are in no batch; the short last batch counts, too"
    )
    assert np.array_equal(all_rows, np.arange(rows)), f"{told}: each row must be in one batch, in their order"
    assert counts == [len(batch) for batch in sampler.batches(np.arange(rows), batch_size)], (
        f"{told}: only the last batch may have another number of rows than {batch_size}, and none may be empty"
    )


@pytest.mark.parametrize(("rows", "size"), SHARES)
def test_share(exercise: ModuleType, rows: int, size: int) -> None:
    """Shares cover the batch once, in the order of ranks, and are as even as can be."""
    shares = [np.arange(rows)[exercise.share(rows, rank, size)] for rank in range(size)]
    counts = [len(own) for own in shares]
    told = f"share: {rows} rows on {size} ranks are shared as {counts}"
    all_rows = np.concatenate(shares)
    assert len(all_rows) >= rows, f"{told}: {rows - len(all_rows)} rows are on no rank; what of the remainder?"
    assert len(all_rows) <= rows, f"{told}: some rows are on several ranks, and would count more than others"
    assert np.array_equal(all_rows, np.arange(rows)), f"{told}: rank 0 takes the first rows, rank 1 those behind them"
    assert set(counts) <= {rows // size, -(-rows // size)}, (
        f"{told}: each rank takes {rows // size} or {-(-rows // size)} rows. The other ranks wait for the largest share"
    )
    expected = [sampler.share(rows, rank, size) for rank in range(size)]
    assert sorted(counts) == sorted(own.stop - own.start for own in expected), (
        f"{told}: ddp_numpy gives as many ranks the larger share as there are rows left over"
    )


def test_partial_gradients_of_even_shards(exercise: ModuleType) -> None:
    """Two ranks of five rows each."""
    X, y = exercise.data()
    w = np.array([0.5, 1.0, -1.0])
    whole = X.T @ (X @ w - y) / 10
    parts = [exercise.partial_gradient(X[rows], y[rows], w, 10) for rows in (slice(0, 5), slice(5, 10))]
    assert np.shape(parts[0]) == w.shape, f"partial_gradient returned the shape {np.shape(parts[0])}, not that of w"
    total = parts[0] + parts[1]
    assert not np.allclose(total, 2 * whole), (
        "partial_gradient: the sum over two ranks is twice the gradient of the batch: divide by global_rows, and not "
        "by the rows of this rank"
    )
    assert not np.allclose(total, 10 * whole), "partial_gradient: divide by global_rows, as the loss is a mean"
    assert np.allclose(total, whole, rtol=1e-12), (
        "partial_gradient: the sum over ranks is not the gradient of the batch. The gradient of one row's loss is "
        "(X[r] @ w - y[r]) * X[r]"
    )


@pytest.mark.filterwarnings("ignore")  # that a mean of nothing is not a number
def test_partial_gradient_of_no_rows(exercise: ModuleType) -> None:
    """The rank still takes part in the sum: the others wait for it."""
    X, y = exercise.data()
    part = exercise.partial_gradient(X[:0], y[:0], np.ones(3), 2)
    assert isinstance(part, np.ndarray), (
        "partial_gradient of 0 rows must return an array of zeros, for the sum over ranks"
    )
    assert part.shape == (3,), "partial_gradient of 0 rows must return an array of zeros (D,), for the sum over ranks"
    assert not part.any(), f"partial_gradient of 0 rows must be 0, and is {part}: a mean of no rows is not a number"


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_the_sum_over_ranks_is_the_gradient_of_the_batch(exercise: ModuleType, size: int) -> None:
    """Of each batch, also of the last one, whose two rows are too few for four ranks."""
    X, y = exercise.data()
    w = np.array([0.5, 1.0, -1.0])
    for batch in (slice(0, 4), slice(4, 8), slice(8, 10)):
        whole = X[batch].T @ (X[batch] @ w - y[batch]) / (batch.stop - batch.start)
        total = sum(exercise.rank_gradient(X, y, w, batch, rank, size) for rank in range(size))
        assert np.allclose(total, whole, rtol=1e-12), (
            f"rank_gradient: on {size} ranks, the sum for the batch {batch.start}:{batch.stop} is not the gradient of "
            "these rows. Take the share of the batch's rows, which begin at batch.start, and divide by the rows of "
            "this batch: the last one has 2"
        )


@pytest.mark.parametrize("ranks", [1, 3])
def test_training_on_real_ranks(exercise: ModuleType, run_python: Callable[..., Job], ranks: int) -> None:
    """The weights do not depend on the number of ranks."""
    job = run_python(ranks, "train_shards.py")
    assert job.status == 0, f"train_shards.py failed on {ranks} ranks:\n{job.err}"
    X, y = exercise.data()
    w = np.zeros(3)
    for _ in range(20):
        for batch in (slice(0, 4), slice(4, 8), slice(8, 10)):
            w -= 0.3 * X[batch].T @ (X[batch] @ w - y[batch]) / len(X[batch])
    assert np.allclose([float(word) for word in job.out.split()], w, atol=1e-7), (
        f"train_shards.py on {ranks} ranks ends with the weights {job.out.strip()}, and one process with {w}"
    )
