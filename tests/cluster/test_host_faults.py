"""A rank is killed on another host, and a host is cut off from the others, while ranks on it train."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from jobs import JOB_SECONDS, MARK, kill, left_of, rank_of
from namespaces import Cluster

SECONDS = 20  # for a job to end after the cut, and for all that is left of it on any host


class Training:
    """A job over both hosts, two ranks on each, that trains until it is ended."""

    def __init__(self, cluster: Cluster, folder: Path, *options: str) -> None:
        self._cluster, self._mark = cluster, str(folder)
        hosts = ",".join(f"{host}:2" for host in cluster.hosts[:2])
        command = [sys.executable, "-m", "launch", "run", "--mpi-args", cluster.mpi_args, "--hosts", hosts]
        command += ["--env", f"{MARK}={self._mark}", *options, "--quiet", "--out", "run", "--stall-timeout", "2"]
        self.job = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + JOB_SECONDS
        while not list((folder / "run" / "checkpoints").glob("step-*.npz")):
            if self.job.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                pytest.fail(f"it does not train:\n{self.said}")
            time.sleep(0.1)

    def __enter__(self) -> "Training":
        return self

    def __exit__(self, *_: object) -> None:
        self.job.kill()
        _, self.said = self.job.communicate()
        for host in self._cluster.hosts[:2]:
            self._cluster.heal(host)
        kill(left_of(self._mark))

    def kill(self, rank: int) -> None:
        """Kill a rank."""
        process = rank_of(self._mark, rank)
        assert process is not None
        process.kill()

    def end(self, seconds: float) -> str:
        """Wait until it has ended on all hosts; returns what it said."""
        deadline = time.monotonic() + seconds
        _, said = self.job.communicate(timeout=seconds)
        while left := left_of(self._mark):
            assert time.monotonic() < deadline, left
            time.sleep(0.1)
        return said


def test_a_killed_rank_of_another_host_is_named(cluster: Cluster, tmp_path: Path) -> None:
    with Training(cluster, tmp_path, "--epochs", "100000") as training:
        training.kill(3)
        said = training.end(SECONDS)
    assert f"error: rank 3 on {cluster.hosts[1]} was killed; mpirun ended the others\n" in said


@pytest.mark.parametrize("cut", [0, 1])
def test_a_host_cut_off_ends_the_job_on_all_hosts(cut: int, cluster: Cluster, tmp_path: Path) -> None:
    a, b = cluster.hosts[:2]
    with Training(cluster, tmp_path, "--epochs", "100000") as training:
        cluster.cut(cluster.hosts[cut])
        said = training.end(SECONDS)
    assert training.job.returncode == 1
    # What a host says that is cut off, mpirun never hears.
    words = f"rank 0 on {a} gave" if cut == 0 else f"ranks 2 on {b}, 3 on {b} gave"
    assert f"error: {words} no sign of life for 2 s" in said
    assert "was killed" not in said


@pytest.mark.slow
def test_training_goes_on_without_a_host_that_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    options = ("--max-restarts", "1", "--elastic", "--epochs", "40")
    with Training(cluster, tmp_path, *options) as training:
        cluster.cut(cluster.hosts[1])
        said = training.end(SECONDS + 60)  # the launcher waits a while for a host to answer
    assert training.job.returncode == 0, said
    assert f"note: going on without {cluster.hosts[1]}, on 2 ranks" in said
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 40
