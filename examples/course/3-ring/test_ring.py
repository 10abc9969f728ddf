"""Tests of exercise 3, in the order in which to mend what they find."""

from collections.abc import Callable
from types import ModuleType

import pytest
from jobs import Job


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ring_allreduce_on_real_ranks(run_python: Callable[..., Job], ranks: int) -> None:
    """Sums of whole numbers of many lengths, the bytes that are sent, and whether all ranks have the same bits."""
    job = run_python(ranks, "-m", "mpi4py", "check_ring.py")
    assert " waits " not in job.err, (
        f"ring_allreduce on {ranks} ranks waits for ever. Each rank must call Sendrecv as often as the others, also "
        f"with empty pieces, and right and left must go around. Where the ranks wait:\n{job.err}"
    )
    assert job.status == 0, f"ring_allreduce failed on {ranks} ranks:\n{job.err}"
    assert not job.out, f"ring_allreduce: {job.out.strip()}"


def test_bytes_sent(exercise: ModuleType) -> None:
    """In each of 2 (size - 1) steps a rank sends one piece of size pieces."""
    assert exercise.bytes_sent(1200, 1) == 0, "bytes_sent: a single rank sends nothing"
    assert exercise.bytes_sent(1200, 2) == 1200, "bytes_sent of 1200 bytes on 2 ranks: each sends a half, twice: 1200"
    assert exercise.bytes_sent(1200, 4) == 1800, (
        f"bytes_sent of 1200 bytes on 4 ranks is {exercise.bytes_sent(1200, 4)}: each rank sends 3 pieces of 300 bytes "
        "in the reduce-scatter and 3 in the allgather, so 1800"
    )


def test_bandwidths(exercise: ModuleType) -> None:
    """As nccl-tests define them in their doc/PERFORMANCE.md."""
    assert exercise.algbw(1000, 0.5) == 2000, "algbw: the bytes of the vector, over the seconds: 1000 / 0.5 is 2000"
    assert exercise.busbw(1000, 4, 0.5) == 3000, (
        "busbw: algbw times 2 (size - 1) / size, so that it can be compared with the speed of the hardware for any "
        "number of ranks: 2000 * 6 / 4 is 3000"
    )


def test_the_timing_on_real_ranks(run_python: Callable[..., Job]) -> None:
    """A line for each size and way. What the times are is for you to judge."""
    job = run_python(2, "-m", "mpi4py", "time_ring.py")
    assert job.status == 0, f"time_ring.py failed on 2 ranks:\n{job.err}"
    sizes = [line.split()[0] for line in job.out.splitlines()[1:]]
    assert len(sizes) == 2 * len(set(sizes)) > 0, f"time_ring.py: not two lines for each size:\n{job.out}"
