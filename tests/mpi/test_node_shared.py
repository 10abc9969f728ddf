"""Sums in memory that the ranks of a node share."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, openmpi_python, run_job, train
from several import train_several
from tables import classified_rows, write_known_csv

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

# All ranks get arrays of rank 0's.
SHARE = """
import numpy as np
from ddp_numpy import world
comm = world()
for x in (np.arange(12.0).reshape(3, 4), np.arange(5, dtype=np.uint8), np.zeros((0, 3), np.float32)):
    y = comm.share(x if comm.rank == 0 else None)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y, x)
"""


@pytest.mark.parametrize("ranks", [None, 1, 2, 3, 4, 5])
def test_sums_and_shared_arrays_are_right_on_all_ranks(ranks: int | None, tmp_path: Path) -> None:
    job = run_job(ranks, "-c", SUM + PARTS + SHARE, cwd=tmp_path)
    assert job.status == 0, job.err
    sums = "" if ranks in (None, 1) else "node-shared memory"
    assert job.out == f"{sums}\n" * (ranks or 1)


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
    write_known_csv(tmp_path / "t.csv", *classified_rows(100))
    digests = set()
    for outs in (("0", "1"), ("2", "3")):  # in the same job, and in another one
        commands = {out: (tmp_path, ("--data", "t.csv", "--epochs", "2", "--out", out)) for out in outs}
        for out, job in train_several(3, commands).items():
            assert "sums by node-shared memory" in job.out
            digests.add(load_model(tmp_path / out / "model.npz").digest())
    assert len(digests) == 1


def test_both_ways_of_summing_train_the_same_weights(tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(100))
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
    write_known_csv(tmp_path / "t.csv", *classified_rows(100))
    (tmp_path / "job.py").write_text(NO_SHARED_MEMORY)
    job = run_job(3, "job.py", "--data", "t.csv", "--epochs", "1", "--comm", way, cwd=tmp_path)
    if way == "auto":
        assert job.status == 0, job.err
        assert "sums by Allreduce, as memory can't be shared (" in job.out
    else:
        assert (job.status, job.out) == (2, "")
        assert len(job.err.splitlines()) == 1
        assert job.err.startswith("error: --comm node-shared: memory can't be shared (")


MEMORY = """
import sys
import psutil
from ddp_numpy import world, load_data
comm = world(sys.argv[1])
for name in sys.argv[2:]:
    train, valid = load_data(name, comm)
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
        job = run_job(3, "-c", MEMORY, sums, "small.npz", "large.npz", cwd=tmp_path)
        assert job.status == 0, job.err
        small, large = map(int, job.out.split())
        return (large - small) / X.nbytes

    assert copies("auto") < 1.25
    assert copies("allreduce") > 2.5  # the measure sees copies where they are


# Containers have 64 MB of shared memory. How much of it an MPI takes for itself depends on its version, so there is a
# little less here: data of 55 MB never fits. As root or in a user namespace anybody can give it to a job.
SMALL_MEBIBYTES = 40
SMALL = 'mount -t tmpfs -o "size=$0" tmpfs /dev/shm && exec "$@"'
LARGE = ("--data", "large.npz", "--epochs", "1", "--batch-size", "8192", "--hidden", "8", "--reproducible")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with data of 55 MB, and the hash of what one process trains on it."""
    unshare = subprocess.run([*unshared(), "true"], check=False, capture_output=True)
    if unshare.returncode:
        pytest.skip(f"a job's own shared memory needs root, or user namespaces: {unshare.stderr.decode()}")
    folder = tmp_path_factory.mktemp("large")
    X = np.random.default_rng(0).integers(0, 256, (70_000, 784)).astype(np.uint8)
    np.savez(folder / "large.npz", X=X, y=np.arange(len(X)) % 10)
    job = train(None, *LARGE, "--out", "alone", cwd=folder)
    assert job.status == 0, job.err
    return folder, load_model(folder / "alone" / "model.npz").digest()


def unshared() -> list[str]:
    return ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]


def train_in(
    mebibytes: int,
    ranks: int,
    *options: str,
    cwd: Path,
    python: Path = Path(sys.executable),
    env: dict[str, str] | None = None,
) -> Job:
    """Train in so little shared memory."""
    flags = () if python == Path(sys.executable) else ("--allow-run-as-root", "--map-by", "slot:OVERSUBSCRIBE")
    command = [*unshared()[1:], "sh", "-c", SMALL, f"{mebibytes}m", python.with_name("mpirun"), *flags]
    command += ["-n", str(ranks), python, "-m", "ddp_numpy.train", *options]
    return run_job(None, *command, cwd=cwd, python="unshare", env=env, timeout=60)


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("mpi", ["MPICH", "Open MPI"])
def test_data_that_shared_memory_is_too_small_for_is_copied(
    mpi: str, ranks: int, large: tuple[Path, str], tmp_path: Path
) -> None:
    python = openmpi_python() if mpi == "Open MPI" else Path(sys.executable)
    folder, expected = large
    job = train_in(SMALL_MEBIBYTES, ranks, *LARGE, "--out", str(tmp_path / "run"), cwd=folder, python=python)
    assert job.status == 0, job.err
    words = r"a copy of the data on each rank, as /dev/shm on \S+ has \d+ MiB free and \d+ "
    assert re.search(rf"; {mpi} [\d.]+; {words}are needed\n", job.out), job.out
    assert load_model(tmp_path / "run" / "model.npz").digest() == expected


def test_vectors_that_shared_memory_is_too_small_for_are_summed_by_mpi(large: tuple[Path, str], tmp_path: Path) -> None:
    job = train_in(
        64, 4, "--hidden", "2500", "--epochs", "1", "--dtype", "float64", "--batch-size", "512", cwd=tmp_path
    )
    assert job.status == 0, job.err
    assert re.search(r"sums by Allreduce, as /dev/shm on \S+ has \d+ MiB free and \d+ are needed\n", job.out), job.out


def test_memory_that_is_to_be_shared_and_can_not_is_one_line(large: tuple[Path, str], tmp_path: Path) -> None:
    job = train_in(SMALL_MEBIBYTES, 4, *LARGE, "--comm", "node-shared", "--out", str(tmp_path / "run"), cwd=large[0])
    assert (job.status, job.out) == (2, "")
    (line,) = job.err.splitlines()
    assert re.match(r"error: --comm node-shared: /dev/shm on \S+ has \d+ MiB free and \d+ are needed; use --comm", line)


def test_pages_that_another_job_has_taken_are_missed_before_they_are_written(
    large: tuple[Path, str], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nfrom types import SimpleNamespace\n"
        "os.statvfs = lambda path: SimpleNamespace(f_bavail=1 << 40, f_frsize=4096)\n"
    )
    job = train_in(
        SMALL_MEBIBYTES, 4, *LARGE, "--out", str(tmp_path / "run"), cwd=large[0], env={"PYTHONPATH": str(tmp_path)}
    )
    assert job.status == 0, job.err
    assert re.search(r"a copy of the data on each rank, as /dev/shm on \S+ is full\n", job.out), job.out
