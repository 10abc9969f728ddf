"""examples/several_hosts on hosts of these tests."""

import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from in_examples import activated, copied, shell
from jobs import JOB_SECONDS, MARK, kill, left_of, rank_of, train
from namespaces import Cluster
from run_folders import lines

from ddp_numpy import load_model


@pytest.fixture
def folder(cluster: Cluster, tmp_path: Path) -> Path:
    """The example, with these hosts in the place of its own."""
    folder = copied("several_hosts", tmp_path)
    names = (folder / "hosts.txt").read_text()
    for own, host in zip(("node1", "node2"), cluster.hosts, strict=False):
        assert f"\n{own} slots=2\n" in names
        names = names.replace(own, host)
    (folder / "hosts.txt").write_text(names)
    return folder


def test_the_script_checks_the_hosts_and_trains_on_them(cluster: Cluster, folder: Path) -> None:
    options = ("--epochs", "1", "--dtype", "float64")
    job = shell("run.sh", *options, cwd=folder, env={"MPI_ARGS": cluster.mpi_args})
    assert job.status == 0, job.out + job.err
    a, b, _ = cluster.hosts
    assert f"PASS  host names         {a}, {b}\n" in job.out
    assert f"4 on {a}, {b}; " in job.out
    alone = train(None, *options, "--out", "alone", cwd=folder)
    assert alone.status == 0, alone.err
    found, expected = (load_model(folder / run).params for run in ("runs/hosts", "alone"))
    assert np.abs(found - expected).max() <= 1e-12 * np.abs(expected).max()


def test_a_host_that_the_doctor_fails_is_not_trained_on(cluster: Cluster, folder: Path) -> None:
    hosts = (folder / "hosts.txt").read_text()
    (folder / "hosts.txt").write_text(f"{hosts}nowhere slots=2\n")
    job = shell("run.sh", cwd=folder, env={"MPI_ARGS": cluster.mpi_args})
    assert job.status == 1
    assert "FAIL  hosts              can't start a process on nowhere: " in job.out
    assert not (folder / "runs").exists()


def test_a_rank_that_dies_is_started_again_from_a_checkpoint(cluster: Cluster, folder: Path) -> None:
    env = {**os.environ, **activated(), "MPI_ARGS": cluster.mpi_args, MARK: str(folder)}
    command = ["sh", "run.sh", "--epochs", "12", "--quiet"]
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as job:
        try:
            deadline = time.monotonic() + JOB_SECONDS
            while not list((folder / "runs" / "hosts" / "checkpoints").glob("step-*.npz")):
                assert job.poll() is None, "it ends before its first checkpoint"
                assert time.monotonic() < deadline, "it does not train"
                time.sleep(0.05)
            rank = rank_of(str(folder), 3)
            assert rank is not None
            rank.kill()
            _, said = job.communicate(timeout=JOB_SECONDS)
        finally:
            kill(left_of(str(folder)))
    assert job.returncode == 0, said
    assert f"error: rank 3 on {cluster.hosts[1]} was killed; mpirun ended the others\n" in said
    assert "; restart 1 of 3 from step-" in said
    assert [line["epoch"] for line in lines(folder / "runs" / "hosts")] == list(range(1, 13))
