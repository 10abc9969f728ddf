"""Two hosts on one machine: network namespaces, joined by a bridge."""

import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_BRIDGE, _SUBNET = "ddptest0", "10.88.0"
_HEAL_SECONDS = 10
# Whether TCP comes through to an address, be it to be refused.
_REACHES = """
import errno, socket, sys
with socket.socket() as one:
    one.settimeout(1)
    sys.exit(one.connect_ex((sys.argv[1], 9)) not in (0, errno.ECONNREFUSED))
"""


@dataclass(frozen=True)
class Cluster:
    """The hosts' names, and what mpirun needs to start processes on them."""

    hosts: tuple[str, ...]
    mpi_args: str

    @property
    def environment(self) -> dict[str, str]:
        """The same for an mpirun of MPICH that gets no such arguments."""
        _, launcher, _, rsh, _, interface = self.mpi_args.split()
        return {"HYDRA_LAUNCHER": launcher, "HYDRA_LAUNCHER_EXEC": rsh, "HYDRA_IFACE": interface}

    def link(self, host: str) -> str:
        """The name of the host's link to the others, on this side."""
        return f"ddpveth{self.hosts.index(host)}"

    def cut(self, host: str) -> None:
        """Let the host's packets vanish."""
        _run("ip", "link", "set", self.link(host), "down")

    def heal(self, host: str) -> None:
        """Undo a cut, and wait until the host reaches the bridge: for a while it still has no route to it."""
        _run("ip", "link", "set", self.link(host), "up")
        deadline = time.monotonic() + _HEAL_SECONDS
        command = ["ip", "netns", "exec", host, sys.executable, "-c", _REACHES, f"{_SUBNET}.1"]
        while subprocess.run(command, check=False).returncode:
            assert time.monotonic() < deadline, f"{host} was cut off, and does not come back"


def up(hosts: tuple[str, ...]) -> Cluster:
    """Make the hosts, each with a link to one bridge."""
    _run("ip", "link", "add", _BRIDGE, "type", "bridge")
    _run("ip", "addr", "add", f"{_SUBNET}.1/24", "dev", _BRIDGE)
    _run("ip", "link", "set", _BRIDGE, "up")
    names = "127.0.0.1 localhost\n" + "".join(f"{_SUBNET}.{10 + i} {host}\n" for i, host in enumerate(hosts))
    for number, host in enumerate(hosts):
        _run("ip", "netns", "add", host)
        _run("ip", "link", "add", f"ddpveth{number}", "type", "veth", "peer", "name", "eth0", "netns", host)
        _run("ip", "link", "set", f"ddpveth{number}", "master", _BRIDGE, "up")
        _run("ip", "-n", host, "addr", "add", f"{_SUBNET}.{10 + number}/24", "dev", "eth0")
        _run("ip", "-n", host, "link", "set", "eth0", "up")
        _run("ip", "-n", host, "link", "set", "lo", "up")
        folder = Path("/etc/netns") / host  # what lies here stands in for /etc inside the host
        folder.mkdir(parents=True)
        (folder / "hosts").write_text(names)
    return Cluster(hosts, f"-launcher ssh -launcher-exec {Path(__file__).with_name('rsh')} -iface {_BRIDGE}")


def down(hosts: tuple[str, ...]) -> None:
    """Remove the hosts and the bridge, as far as they are there."""
    for number, host in enumerate(hosts):
        # On its own, as connections that were cut keep a namespace, and its end of the link, for a while.
        subprocess.run(["ip", "link", "del", f"ddpveth{number}"], check=False, capture_output=True)
        subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)
        shutil.rmtree(Path("/etc/netns") / host, ignore_errors=True)
    subprocess.run(["ip", "link", "del", _BRIDGE], check=False, capture_output=True)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
