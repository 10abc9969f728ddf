import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from namespaces import Cluster, down, up


@pytest.fixture(scope="module")
def one_test_run() -> Iterator[None]:
    """Hosts and a Slurm have fixed names, addresses and ports: one test run on this machine has them at a time.

    The others wait. Skipped where there is no right to make hosts.
    """
    if os.geteuid() != 0:
        pytest.skip("hosts made of network namespaces, and a Slurm of one's own, need root")
    with Path(tempfile.gettempdir(), "ddp_numpy_tests_of_hosts.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # which the kernel gives back also if the other test run is killed
        yield


@pytest.fixture(scope="module")
def cluster(one_test_run: None) -> Iterator[Cluster]:
    """Three hosts, taken down again in the end."""
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("hosts made of network namespaces need ip (iproute2) and unshare (util-linux)")
    hosts = ("ddpnode0", "ddpnode1", "ddpnode2")
    down(hosts)  # what a killed test run may have left
    try:
        yield up(hosts)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces can't be made here: {error.stderr.decode().strip()}")
    finally:
        down(hosts)
