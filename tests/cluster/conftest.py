import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from namespaces import Cluster, down, up


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two hosts, taken down again in the end. Skipped where there is no right to make them."""
    if os.geteuid() != 0:
        pytest.skip("hosts made of network namespaces need root")
    if not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("hosts made of network namespaces need ip (iproute2) and unshare (util-linux)")
    hosts = ("ddpnode0", "ddpnode1")
    down(hosts)  # what a killed test run may have left
    try:
        yield up(hosts)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces can't be made here: {error.stderr.decode().strip()}")
    finally:
        down(hosts)
