"""On what a start of a run was made: machines, libraries, versions and command, for run.json."""

import contextlib
import datetime
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from ddp_numpy.base.threads import blas
from ddp_numpy.comm import Communicator


def circumstances(comm: Communicator, rank_hosts: list[str], epoch: int, step: int) -> dict[str, Any]:
    """When, where and how a start was made: values that JSON can hold.

    rank_hosts: as comm.rank_hosts() returns them. epoch, step: where the start begins, as Trainer counts them. BLAS,
    CPU and versions are those of this rank's host.
    """
    library, threads = blas()
    hosts = list(dict.fromkeys(rank_hosts))
    return {
        "time": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": command(),
        "epoch": epoch,
        "step": step,
        "ranks": comm.size,
        "hosts": hosts,
        "rank_hosts": list(map(hosts.index, rank_hosts)),
        "mpi": comm.library or None,
        "sums": comm.sums or None,
        "blas": library,
        "blas_threads": threads,
        "cpu": _cpu(),
        "versions": {
            "python": platform.python_version(),
            **{name: _version(name) for name in ("ddp_numpy", "numpy", "mpi4py")},
        },
    }


def command() -> str:
    """The command that this process runs, as a shell takes it: python -m ddp_numpy.train --lr 0.1."""
    module = sys.modules["__main__"].__spec__
    program = ["-m", module.name.removesuffix(".__main__")] if module else [sys.argv[0]]
    return shlex.join(["python", *program, *sys.argv[1:]])


def _cpu() -> str:
    """The CPU's model, or at least its kind."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    import importlib.metadata  # which takes 28 ms, and only rank 0 needs it

    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)
    return None
