"""What each rank finds on its machine, and how long sums take: one JSON object, for `launch doctor` to judge."""

import hashlib
import json
import os
import platform
import shutil
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import ddp_numpy
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.threads import blas
from ddp_numpy.cli import run
from ddp_numpy.comm import Communicator, SummedVector

SIZES = tuple(8**power for power in range(1, 9))
"""Bytes of the sums that are measured: 8, 64 … 16 MiB."""
_REPEATS = 7
_REPEAT_SECONDS = 0.02  # about how long one repeat lasts: at least two sums


@click.command("probe")
@click.option("--data", help="A file that every rank is to see.")
@click.pass_context
def main(context: click.Context, /, data: str | None) -> None:
    """Print as JSON what the ranks find: {"ranks": [facts of each], "allreduce": [time of each size]}."""
    comm: Communicator = context.obj
    ranks = comm.gather(facts(comm, data))
    times = allreduce_times(comm) if comm.size > 1 else []
    if comm.rank == 0:
        print(json.dumps({"ranks": ranks, "allreduce": times}), flush=True)


def facts(comm: Communicator, data: str | None) -> dict[str, Any]:
    """What this rank finds. Collective."""
    library, threads = blas()
    hosts = comm.hosts()
    return {
        "host": socket.gethostname(),
        "mpi": comm.library,
        "versions": {
            "Python": platform.python_version(),
            "NumPy": np.__version__,
            "BLAS": library,
            "ddp_numpy": ddp_numpy.__version__,
        },
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": threads,
        "shared_memory_bytes": shutil.disk_usage("/dev/shm").free if Path("/dev/shm").is_dir() else None,
        "unresolved_hosts": [host for host in hosts if not _resolves(host)],
        "data_sha256": _sha256(data) if data else None,
    }


def allreduce_times(
    comm: Communicator, sizes: Sequence[int] = SIZES, repeats: int = _REPEATS
) -> list[dict[str, float]]:
    """Seconds that a sum over ranks takes for each size, as rank 0 sees it: medians of so many repeats. Collective."""
    times = []
    for size in sizes:
        vector = comm.summed_vector(size // 4, np.float32)
        seconds = float(np.median([_time(comm, vector) for _ in range(repeats)]))
        times.append({"bytes": size, "seconds": seconds})
        vector.free()
    return times


def _time(comm: Communicator, vector: SummedVector) -> float:
    """Seconds of one sum, over one repeat of many.

    Rank 0 says in the sum itself that it is the last: on a busy machine no rank can tell beforehand how long a number
    of sums will last.
    """
    x = vector.array
    x[...] = 0
    rounds, start = 0, time.perf_counter()
    while not x[0]:
        x[0] = comm.rank == 0 and rounds > 0 and time.perf_counter() - start >= _REPEAT_SECONDS
        vector.sum()
        rounds += 1
    return (time.perf_counter() - start) / rounds


def _resolves(host: str) -> bool:
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return False
    return True


def _sha256(path: str) -> str:
    """The file's hash, or why there is none."""
    try:
        with open_regular(Path(path)) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]  # a BinaryIO has readinto
    except OSError as error:
        return str(error.strerror or error)
    except InputError as error:
        return str(error)


if __name__ == "__main__":
    run(main)
