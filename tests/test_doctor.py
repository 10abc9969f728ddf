"""The doctor's judgement on what ranks found, and the doctor at work."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import run_job

from ddp_numpy import SingleProcess
from ddp_numpy.probe import allreduce_times
from launch.doctor import FAIL, PASS, WARN, judge

MIB = 2**20


def facts(host: str = "a", **found: Any) -> dict[str, Any]:
    return {
        "host": host,
        "mpi": "MPICH 5.0.2",
        "versions": {"Python": "3.11.7", "NumPy": "2.4.6", "BLAS": "OpenBLAS 0.3", "ddp_numpy": "0.1.0"},
        "cores": 2,
        "threads": 1,
        "shared_memory_bytes": 1000 * MIB,
        "unresolved_hosts": [],
        "data_sha256": None,
    } | found


def other_numpy(host: str) -> dict[str, Any]:
    return facts(host, versions=facts()["versions"] | {"NumPy": "1.26.4"})


@pytest.mark.parametrize(
    ("ranks", "title", "status", "found"),
    [
        ([facts("a"), facts("b")], "NumPy", PASS, "2.4.6"),
        ([facts("a"), facts("a"), other_numpy("b")], "NumPy", FAIL, "2.4.6 on a; 1.26.4 on b"),
        ([facts()] * 2, "cores", PASS, "a: 2 ranks, 2 threads, 2 cores"),
        ([facts()] * 3, "cores", WARN, "a: 3 ranks, 3 threads, 2 cores"),
        ([facts(threads=4)], "cores", WARN, "a: 1 rank, 4 threads, 2 cores"),
        ([facts(shared_memory_bytes=64 * MIB)] * 2, "/dev/shm", WARN, "a: 64 MiB free for 2 ranks"),
        ([facts(shared_memory_bytes=64 * MIB)] * 5, "/dev/shm", FAIL, "a: 64 MiB free for 5 ranks"),
        ([facts(shared_memory_bytes=None)], "/dev/shm", WARN, "a: has none"),
        ([facts("a"), facts("b", unresolved_hosts=["a"])], "host names", FAIL, "b does not know a"),
        ([facts("a", unresolved_hosts=["a"])], "host names", WARN, "a does not know a"),
        ([facts("a"), facts("b")], "host names", PASS, "a, b"),
        ([facts(data_sha256="0" * 64)] * 2, "data", PASS, "SHA-256 0000000000000000… everywhere"),
        (
            [facts("a", data_sha256="0" * 64), facts("b", data_sha256="No such file or directory")],
            "data",
            FAIL,
            f"{'0' * 64} on a; No such file or directory on b",
        ),
        ([facts(data_sha256="Is a directory")] * 2, "data", FAIL, "Is a directory on a"),
    ],
)
def test_the_judgement(ranks: list[dict[str, Any]], title: str, status: str, found: str) -> None:
    checks = [check for check in judge(ranks) if check.title == title]
    assert [(check.status, check.found) for check in checks] == [(status, found)]
    assert bool(checks[0].remedy) == (status != PASS)


def test_no_data_asked_for_is_no_line() -> None:
    assert "data" not in {check.title for check in judge([facts()])}


class Slower(SingleProcess):
    """Ranks whose first sums take no time, and all others 5 ms, as on a machine that becomes busy."""

    def __init__(self) -> None:
        super().__init__()
        self.made = 0

    def allreduce_(self, x: np.ndarray) -> None:
        self.made += 1
        if self.made > 3:
            time.sleep(0.005)


def test_the_times_of_sums_that_become_slow_are_taken_as_soon() -> None:
    comm = Slower()
    times = allreduce_times(comm)
    assert [row["bytes"] for row in times] == [8**power for power in range(1, 9)]
    assert all(row["seconds"] > 0.004 for row in times)
    assert comm.made < 8 * 7 * 10, "7 repeats of 20 ms for each of 8 sizes"


def doctor(*arguments: str, folder: Path, **env: str) -> tuple[int, str]:
    job = run_job(None, "-m", "launch", "doctor", *arguments, cwd=folder, env=env)
    return job.status, job.out


def test_the_table(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    status, table = doctor("-n", "2", "--data", "file", folder=tmp_path)
    assert status == 0, table
    lines = table.splitlines()
    assert lines[0].startswith("PASS  mpirun and mpi4py  MPICH")
    assert any(line.startswith("PASS  data") for line in lines)
    assert lines[-9].split() == ["Allreduce", "bytes", "µs", "algbw", "MB/s", "busbw", "MB/s"]
    assert lines[-8].split()[0] == "8"
    assert lines[-1].split()[0] == "16,777,216"


def test_bus_bandwidth_is_nccl_tests(tmp_path: Path) -> None:
    status, text = doctor("-n", "3", "--json", folder=tmp_path)
    assert status == 0, text  # more ranks than cores is a warning
    for row in json.loads(text)["allreduce"]:
        assert row["algbw"] == pytest.approx(row["bytes"] / row["seconds"])
        assert row["busbw"] == pytest.approx(row["algbw"] * 2 * 2 / 3)


@pytest.mark.parametrize(
    ("arguments", "env", "found"),
    [
        (["--data", "/dev/zero"], {"PYTHONIOENCODING": "ascii"}, "FAIL  data               /dev/zero: not a regular"),
        (["--data", "gone"], {}, "FAIL  data               No such file or directory on"),
        ([], {"MPI4PY_LIBMPI": "/nonexistent"}, "FAIL  mpirun and mpi4py  mpirun started 2 processes, but each"),
        (["--env", "PYTHONHASHSEED=none"], {}, "FAIL  job                ended with status 1: "),
    ],
)
def test_what_is_wrong_is_said_and_fails(arguments: list[str], env: dict[str, str], found: str, tmp_path: Path) -> None:
    status, table = doctor("-n", "2", *arguments, folder=tmp_path, **env)
    assert status == 1
    assert found in table
