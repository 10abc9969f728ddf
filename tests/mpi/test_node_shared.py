"""Sums in memory that the ranks of a node share."""

from pathlib import Path

import numpy as np
import pytest
from jobs import run_job, train
from several import train_several
from tables import classified_rows, write_csv

from ddp_numpy import load_model

# Every rank writes numbers of its own into a summed vector, and compares their sum with one in float64.
SUM = """
import hashlib, sys
import numpy as np
from ddp_numpy import world
comm = world()
for dtype in (np.float32, np.float64):
    for n in (1, 2, 3, 7, 1000, 109_389):
        vector = comm.summed_vector(n, dtype)
        x = vector.array
        for repeat in range(3):
            streams = [np.random.default_rng((rank, n, repeat)) for rank in range(comm.size)]
            parts = [stream.standard_normal(n).astype(dtype) for stream in streams]
            x[...] = parts[comm.rank]
            vector.sum()
            expected = np.sum(parts, axis=0, dtype=np.float64)
            np.testing.assert_allclose(x, expected, rtol=0, atol=comm.size * 4 * np.finfo(dtype).eps)
            digests = comm.broadcast(comm.gather(hashlib.sha256(x.tobytes()).hexdigest()))
            assert len(set(digests)) == 1, "the same bits on every rank"
y = np.full(3, comm.rank + 1.0)  # memory of the caller's own is summed too
comm.allreduce_(y)
assert (y == comm.size * (comm.size + 1) / 2).all()
sys.stdout.write(f"{comm.sums}\\n")
"""


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_sums_are_right_and_the_same_on_all_ranks(ranks: int, tmp_path: Path) -> None:
    job = run_job(ranks, "-c", SUM, cwd=tmp_path)
    assert job.status == 0, job.err
    assert job.out == "node-shared memory\n" * ranks


# A part of a vector is summed, and the rest of it is left alone; its parts one after another are the whole.
PARTS = """
import numpy as np
from ddp_numpy import world
comm = world()
n, size = 1001, comm.size
vector = comm.summed_vector(n, np.float64)
for part in (slice(0, 1), slice(1, 500), slice(500, 501), slice(501, 501), slice(501, n)):
    vector.array[...] = before = np.arange(n) * (comm.rank + 1.0)
    vector.sum(part)
    expected = before.copy()
    expected[part] = np.arange(n)[part] * (size * (size + 1) / 2)
    np.testing.assert_array_equal(vector.array, expected)
"""


@pytest.mark.parametrize("ranks", [None, 2, 3])
def test_a_part_is_summed_alone(ranks: int | None, tmp_path: Path) -> None:
    job = run_job(ranks, "-c", PARTS, cwd=tmp_path)
    assert job.status == 0, job.err


# Every rank makes vectors one after another, and says how much memory it shares with others.
FREED = """
import sys
import numpy as np, psutil
from ddp_numpy import world
comm = world()
shared = []
for _ in range(12):
    vector = comm.summed_vector(1_000_000, np.float64)
    vector.array[...] = 1
    vector.sum()
    assert (vector.array == comm.size).all()
    shared.append(psutil.Process().memory_info().shared)
    vector.free()
sys.stdout.write(f"{(shared[-1] - shared[0]) / 8e6}\\n")
"""


def test_memory_that_is_freed_is_used_again(tmp_path: Path) -> None:
    job = run_job(2, "-c", FREED, cwd=tmp_path)
    assert job.status == 0, job.err
    assert all(float(vectors) < 2 for vectors in job.out.split()), "of 12 vectors not even 2 are kept"


def test_the_same_ranks_give_the_same_bits_again(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(100))
    digests = set()
    for number in range(3):
        job = train(3, "--data", "t.csv", "--epochs", "2", "--out", str(number), cwd=tmp_path)
        assert "sums by node-shared memory" in job.out
        digests.add(load_model(tmp_path / str(number) / "model.npz").digest())
    assert len(digests) == 1


def test_both_ways_of_summing_train_the_same_weights(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(100))
    options = ("--data", "t.csv", "--epochs", "2", "--batch-size", "7", "--dtype", "float64")
    ways = {"node-shared": "sums by node-shared memory", "allreduce": "sums by Allreduce"}
    jobs = train_several(3, {way: (tmp_path, (*options, "--comm", way, "--out", way)) for way in ways})
    params = []
    for way, said in ways.items():
        job = jobs[way]
        assert job.status == 0, job.err
        assert said in job.out
        params.append(load_model(tmp_path / way / "model.npz").params)
    assert np.abs(params[0] - params[1]).max() <= 1e-12 * np.abs(params[0]).max()


# That memory can't be shared is simulated: an MPI that can't share any would not start here.
NO_SHARED_MEMORY = (
    "from ddp_numpy.comm.mpi import MPI\n"
    "class Window(MPI.Win):\n"
    "    def Allocate_shared(*_, **__): raise MPI.Exception(MPI.ERR_NO_MEM)\n"
    "MPI.Win = Window\n"
    "from ddp_numpy.cli import run\nfrom ddp_numpy.train import main\nrun(main)\n"
)


@pytest.mark.parametrize("way", ["auto", "node-shared"])
def test_where_no_memory_can_be_shared(way: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(100))
    (tmp_path / "job.py").write_text(NO_SHARED_MEMORY)
    job = run_job(3, "job.py", "--data", "t.csv", "--epochs", "1", "--comm", way, cwd=tmp_path)
    if way == "auto":
        assert job.status == 0, job.err
        assert "sums by Allreduce, as memory can't be shared (" in job.out
    else:
        assert (job.status, job.out) == (2, "")
        assert len(job.err.splitlines()) == 1
        assert job.err.startswith("error: --comm node-shared: Allreduce, as memory can't be shared (")


SHARE = """
import numpy as np
from ddp_numpy import world
comm = world()
for x in (np.arange(12.0).reshape(3, 4), np.arange(5, dtype=np.uint8), np.zeros((0, 3), np.float32)):
    y = comm.share(x if comm.rank == 0 else None)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)
"""


def test_shared_arrays_are_the_roots(tmp_path: Path) -> None:
    for ranks in (None, 1, 2, 4):
        job = run_job(ranks, "-c", SHARE, cwd=tmp_path)
        assert job.status == 0, job.err


MEMORY = """
import sys
import psutil
from ddp_numpy import world, load_data
comm = world(sys.argv[1])
train, valid = load_data(sys.argv[2], comm)
(train.features.sum(), valid.features.sum())  # a page counts once it is touched
comm.agree(None)
pss = comm.gather(psutil.Process().memory_full_info().pss)
comm.agree(None)
if comm.rank == 0:
    print(sum(pss))
"""


def test_the_data_is_there_once(tmp_path: Path) -> None:
    X = np.random.default_rng(0).integers(0, 256, (40_000, 784)).astype(np.uint8)
    y = np.arange(len(X)) % 10
    np.savez(tmp_path / "large.npz", X=X, y=y)
    np.savez(tmp_path / "small.npz", X=X[:100], y=y[:100])

    def copies(sums: str) -> float:
        """How many times the large data is in the memory of three ranks."""
        used = []
        for name in ("large.npz", "small.npz"):
            job = run_job(3, "-c", MEMORY, sums, name, cwd=tmp_path)
            assert job.status == 0, job.err
            used.append(int(job.out))
        return (used[0] - used[1]) / X.nbytes

    assert copies("auto") < 1.25
    assert copies("allreduce") > 2.5  # the measure sees copies where they are
