"""Tests of exercise 5, in the order in which to mend what they find."""

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from jobs import Job

from ddp_numpy.scaling import trace

CALLS = 40
RANKS = 3
SECRET = "course"


@pytest.fixture
def began() -> np.ndarray:
    """Four ranks that come to each call within 1 ms of each other, none of them always last (4, CALLS)."""
    rng = np.random.default_rng(10)
    return np.arange(CALLS) * 0.1 + rng.permuted(np.tile([[0.0], [0.0003], [0.0006], [0.001]], CALLS), axis=0)


def test_waiting(exercise: ModuleType) -> None:
    """Two ranks in three calls."""
    found = exercise.waiting(np.array([[1.0, 2.0, 3.5], [1.25, 2.0, 3.0]]))
    assert np.shape(found) == (2, 3), f"waiting returned the shape {np.shape(found)}: a row for each rank, as began"
    assert np.min(found) >= 0, "waiting: nobody waits for less than 0 s; the last rank's moment minus each rank's own"
    assert np.allclose(found, [[0.25, 0.0, 0.0], [0.0, 0.0, 0.5]]), (
        f"waiting returned {found.tolist()}. In the first call rank 0 comes at 1.0 and rank 1 at 1.25, so rank 0 waits "
        "for 0.25 s and rank 1 does not wait: in each call, look for the last rank"
    )


def test_a_rank_that_is_always_last(exercise: ModuleType, began: np.ndarray) -> None:
    """Rank 2 is 5 ms late in each call."""
    began[2] += 0.005
    found = exercise.straggler(began)
    assert found == 2, (
        f"straggler returned {found}, and rank 2 came last in each call. Who waits least is the one who is waited for"
    )
    assert type(found) is int, f"straggler returned a {type(found).__name__}: make it an int"


def test_no_straggler(exercise: ModuleType, began: np.ndarray) -> None:
    """Ranks that take turns in coming last."""
    most = np.bincount(began.argmax(axis=0)).max()
    found = exercise.straggler(began)
    assert found is None, (
        f"straggler returned {found}, and no rank came last in more than {most} of {CALLS} calls: return None, as it "
        "is now this rank and now that one"
    )


def test_one_long_pause_makes_no_straggler(exercise: ModuleType, began: np.ndarray) -> None:
    """Rank 2 is a little late in each call, and rank 0 once very late."""
    began[2] += 0.002
    began[0, 7] += 5.0
    found = exercise.straggler(began)
    assert found == 2, (
        f"straggler returned {found}. Rank 0 was late in a single call, by 5 s, and rank 2 in all others: count calls, "
        "as one long pause outweighs all others in a sum or a mean of seconds"
    )


def test_lost_seconds(exercise: ModuleType) -> None:
    """Three ranks in two calls: rank 1 costs 0.5 s in the first one, and nothing in the second."""
    times = np.array([[1.0, 2.0], [1.75, 2.0], [1.25, 2.5]])
    found = exercise.lost_seconds(times, 1)
    assert found == pytest.approx(0.25), (
        f"lost_seconds of rank 1 returned {found}. In the first call all others were there at 1.25 and rank 1 came at "
        "1.75: 0.5 s. In the second call rank 2 came last: 0 s. The mean is 0.25 s"
    )


def test_the_straggler_on_real_ranks(exercise: ModuleType, run_python: Callable[..., Job], tmp_path: Path) -> None:
    """Three ranks train, and one of them sleeps in each step."""
    settings = {"model-file": "slow_model.py", "batch-size": 63, "comm": "allreduce"}
    words = ("-m", "ddp_numpy.scaling.job", "--settings", json.dumps(settings), "--seconds", "0.1")
    job = run_python(RANKS, *words, "--trace", "trace.json.gz", SECRET=SECRET)
    assert job.status == 0, f"the run that is traced failed:\n{job.err}"
    _, facts = trace.read(tmp_path / "trace.json.gz")
    began = exercise.entry_times(tmp_path / "trace.json.gz")
    assert np.shape(began) == (RANKS, facts["parts"]["calls"]), (
        f"entry_times returned the shape {np.shape(began)}, and {RANKS} ranks made {facts['parts']['calls']} calls"
    )
    seconds = exercise.waiting(began).sum(axis=1) / facts["parts"]["steps"]
    assert np.allclose(seconds, facts["parts"]["waiting"], rtol=1e-3, atol=1e-6), (
        f"in a step the ranks wait for {seconds} s by waiting(entry_times(…)), and for {facts['parts']['waiting']} s "
        "by ddp_numpy's own reckoning: column 0 of a record's calls is when the rank began them"
    )
    slow = zlib.crc32(SECRET.encode()) % RANKS  # as slow_model.py chooses it
    assert exercise.straggler(began) == slow, (
        f"straggler names rank {exercise.straggler(began)} in a real run in which rank {slow} slept in each step"
    )
    assert exercise.lost_seconds(began, slow) > 0, (
        f"lost_seconds says that rank {slow} costs {exercise.lost_seconds(began, slow)} s a step, and all wait for it"
    )
