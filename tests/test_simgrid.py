"""Simulated sums beside those of SimGrid's SMPI, which runs a real MPI program on the same network."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ddp_numpy.scaling.collectives import Algorithm, allreduce
from ddp_numpy.scaling.topology import FatTree, Switch, Topology

pytestmark = pytest.mark.skipif(
    shutil.which("smpirun") is None or shutil.which("cc") is None,
    reason="needs SimGrid (Debian: libsimgrid-dev) and a C compiler",
)

LATENCY, RATE = 1e-6, 1.25e9  # of a link: seconds, and bytes a second
PLATFORM = """<?xml version='1.0'?>
<!DOCTYPE platform SYSTEM "https://simgrid.org/simgrid.dtd">
<platform version="4.1">
  <cluster id="all" prefix="h" suffix="" radical="0-1023" speed="1Gf" bw="1.25GBps" lat="1us"
    sharing_policy="SPLITDUPLEX" {more}/>
</platform>
"""
TOPOLOGIES: dict[str, tuple[str, Topology]] = {
    "switch": ("", Switch()),
    "fat tree": ('topology="FAT_TREE" topo_parameters="2;32,32;1,32;1,1"', FatTree(64)),
    "narrow fat tree": ('topology="FAT_TREE" topo_parameters="2;32,32;1,16;1,1"', FatTree(48, 2)),
}
# Messages take as long as links do, and nothing else costs time.
SETTINGS = {
    "network/model": "CM02",
    "network/latency-factor": "1",
    "network/bandwidth-factor": "1",
    "network/weight-S": "0",
    "network/TCP-gamma": "0",
    "network/crosstraffic": "0",
    "smpi/simulate-computation": "no",
    "smpi/reduce": "binomial",
    "smpi/bcast": "binomial_tree",
}
LARGE = 65_536  # numbers, of 4 bytes: beside their time that of a link's latency is little


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("simgrid") / "allreduce"
    subprocess.run(["smpicc", "-O1", Path(__file__).with_name("allreduce.c"), "-o", path], check=True, timeout=120)
    return path


# "tree" of small messages: SMPI sends to all children at the same time, and they share the sender's link.
@pytest.mark.parametrize(
    ("algorithm", "name", "counts"),
    [
        ("doubling", "rdb", (128, 4096, LARGE)),
        ("halving", "rab", (128, 4096, LARGE)),
        ("tree", "redbcast", (LARGE,)),
        ("ring", "lr", (2 * LARGE,)),
    ],
)
@pytest.mark.parametrize("hosts", [64, 256, pytest.param(1024, marks=pytest.mark.slow)])
@pytest.mark.parametrize("network", TOPOLOGIES)
def test_a_sum_takes_as_long_as_in_simgrid(
    network: str, hosts: int, algorithm: Algorithm, name: str, counts: tuple[int, ...], program: Path
) -> None:
    if hosts == 1024 and algorithm == "ring":
        pytest.skip("takes SimGrid more than a minute")
    more, topology = TOPOLOGIES[network]
    folder = program.parent
    (folder / "platform.xml").write_text(PLATFORM.format(more=more))
    (folder / "hosts").write_text("".join(f"h{number}\n" for number in range(hosts)))
    options = [f"--cfg={key}:{value}" for key, value in (SETTINGS | {"smpi/allreduce": name}).items()]
    command = ["smpirun", "-np", str(hosts), "-platform", "platform.xml", "-hostfile", "hosts", *options]
    done = subprocess.run(
        [*command, "--log=root.thres:error", program, *map(str, counts)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = {int(nbytes): float(seconds) for nbytes, seconds in map(str.split, done.stdout.splitlines())}
    assert list(found) == [4 * count for count in counts]

    def message(distance: int, nbytes: float, *, all_send: bool = True) -> float:
        path = topology.path(distance)
        return path.links * LATENCY + nbytes / RATE / (path.share if all_send else 1)

    for nbytes, seconds in found.items():
        moments = np.zeros(hosts)
        allreduce(moments, nbytes, message, algorithm)
        assert moments.max() == pytest.approx(seconds, rel=0.15)
