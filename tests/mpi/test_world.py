"""Which ranks there are: with MPI, without it, and with an MPI that is not mpirun's."""

import socket
from pathlib import Path

import pytest
from jobs import run_job

# One write a rank, so that mpirun can't mix the lines of two.
SHOW = (
    "import sys; from ddp_numpy import world; comm = world(); "
    "sys.stdout.write(f'{comm.rank} {comm.size} {type(comm).__name__} {comm.hosts()}\\n')"
)
NO_IMPORT = "import click\n@click.command('train')\ndef main(): pass\nrun(main)"  # nothing of training itself
NO_LIBRARY = {"MPI4PY_LIBMPI": "/nonexistent/libmpi.so"}
NO_MPI4PY = "import sys; sys.modules['mpi4py'] = None; "


def test_ranks_that_mpirun_started(tmp_path: Path) -> None:
    job = run_job(3, "-c", SHOW, cwd=tmp_path)
    assert job.status == 0, job.err
    host = socket.gethostname()
    assert sorted(job.out.splitlines()) == [f"{rank} 3 NodeSharedCommunicator ['{host}']" for rank in range(3)]


@pytest.mark.parametrize("ranks", [None, 1])
def test_one_process_is_a_single_process(ranks: int | None, tmp_path: Path) -> None:
    job = run_job(ranks, "-c", SHOW, cwd=tmp_path)
    assert job.out.startswith("0 1 SingleProcess "), job.err


@pytest.mark.parametrize("how", ["no mpi4py", "no library"])
def test_a_process_without_mpi_trains_alone(how: str, tmp_path: Path) -> None:
    code, env = (NO_MPI4PY + SHOW, {}) if how == "no mpi4py" else (SHOW, NO_LIBRARY)
    job = run_job(None, "-c", code, cwd=tmp_path, env=env)
    assert job.out.startswith("0 1 SingleProcess "), job.err


@pytest.mark.parametrize(
    ("ranks", "env", "message"),
    [
        # A real mpirun, whose processes have no MPI that could join them.
        (3, NO_LIBRARY, "mpirun started 3 processes, but each of them is alone (mpi4py finds no MPI library)"),
        # What other launchers tell the processes they start.
        (None, {"PMI_SIZE": "4", "PMI_RANK": "0"} | NO_LIBRARY, "mpirun started 4 processes, but each"),
        (None, {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "0"}, "srun started 4 processes, but each"),
        (None, {"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "0"}, "Open MPI's mpirun started 4 processes"),
    ],
)
def test_copies_that_know_nothing_of_each_other_are_refused(
    ranks: int | None, env: dict[str, str], message: str, tmp_path: Path
) -> None:
    job = run_job(ranks, "-m", "ddp_numpy.train", cwd=tmp_path, env=env)
    assert job.status == 2, job.err
    assert job.out == ""
    (line,) = job.err.splitlines()
    assert line.startswith(f"error: {message}")
    assert "mpirun and mpi4py must belong to the same MPI" in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("size", "rank"),
    [("2", "abc"), ("two", "0"), ("-3", "0"), ("2", "-1"), ("2", "2"), ("9" * 20, "0"), ("2", "1" * 5000)],
)
def test_an_environment_that_no_launcher_has_made_is_refused(size: str, rank: str, tmp_path: Path) -> None:
    env = {"PMI_SIZE": size, "PMI_RANK": rank}
    job = run_job(None, "-c", "from ddp_numpy.cli import run\n" + NO_IMPORT, cwd=tmp_path, env=env)
    assert (job.status, job.out) == (2, "")
    (line,) = job.err.splitlines()
    assert line.startswith(f"error: PMI_SIZE={size} and PMI_RANK={rank[:9]}")
    assert line.endswith(" in the environment is no number of processes and a rank; unset them")


def test_one_communicator_however_it_is_asked_for(tmp_path: Path) -> None:
    code = (
        "from ddp_numpy import InputError, world\n"
        "assert world() is world('auto') is world(sums='auto') is world(stall_timeout=5)\n"
        "assert world('allreduce') is not world()\n"
        "for wrong in (0, -1, float('nan')):\n"
        "    try: world(stall_timeout=wrong)\n"
        "    except InputError as error: assert str(error) == f'stall timeout {wrong}: must be above 0'\n"
        "    else: raise AssertionError(wrong)\n"
        "world(stall_timeout=1e300).agree(None)\n"
    )
    job = run_job(2, "-c", code, cwd=tmp_path)
    assert (job.status, job.err) == (0, "")


def test_of_several_copies_the_first_alone_speaks(tmp_path: Path) -> None:
    env = {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "1"}
    job = run_job(None, "-m", "ddp_numpy.train", cwd=tmp_path, env=env)
    assert (job.status, job.out, job.err) == (2, "", "")


def test_a_process_inside_a_batch_script_is_alone(tmp_path: Path) -> None:
    job = run_job(None, "-c", SHOW, cwd=tmp_path, env={"SLURM_NTASKS": "4", "SLURM_PROCID": "0"})
    assert job.out.startswith("0 1 SingleProcess "), job.err


def test_collectives(tmp_path: Path) -> None:
    job = run_job(
        3,
        "-c",
        "import numpy as np; from ddp_numpy import world; comm = world()\n"
        "vector = comm.summed_vector(5, np.float32); x = vector.array\n"
        "x[:] = comm.rank + 1; vector.sum(); assert (x == 6).all()\n"
        "x[:] = comm.rank; comm.broadcast_(x, 2); assert (x == 2).all()\n"
        "assert comm.broadcast({'a': comm.rank}, 1) == {'a': 1}\n"
        "assert comm.gather(comm.rank * 2, 1) == ([0, 2, 4] if comm.rank == 1 else None)\n"
        "assert comm.on_root(lambda: comm.rank + 10) == 10\n"
        "comm.agree(None)\n",
        cwd=tmp_path,
    )
    assert job.status == 0, job.err


def test_blas_has_one_thread_unless_the_user_says_otherwise(tmp_path: Path) -> None:
    show = "from ddp_numpy.base.blas import describe_blas; print(describe_blas())"
    for code, env, threads in (
        (show, {}, "1 thread a rank"),
        (f"import numpy, ddp_numpy; {show}", {}, "1 thread a rank"),
        (show, {"OMP_NUM_THREADS": "2"}, "2 threads a rank"),
    ):
        job = run_job(None, "-c", code, cwd=tmp_path, env=env)
        assert job.out.strip().endswith(threads), job.err
