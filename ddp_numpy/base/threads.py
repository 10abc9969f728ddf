"""The number of BLAS threads: one per rank, because each core is meant to have a rank of its own."""

import os
import sys

import threadpoolctl

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def default_to_one_thread() -> None:
    """Give this process one BLAS thread, unless the user's environment names a number.

    Best called before NumPy is imported, because its BLAS starts one thread per core at the import. On a large node
    with one rank per core these are thousands of threads: 64 ranks of 64 threads are 4096. If NumPy was imported
    first, the threads exist but stay idle.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    if "numpy" in sys.modules:
        threadpoolctl.threadpool_limits(1, user_api="blas")


def blas() -> tuple[str, int]:
    """The BLAS library that NumPy uses, with its version and its kernel for this CPU; and its number of threads."""
    for pool in threadpoolctl.threadpool_info():
        if pool["user_api"] == "blas":
            name = {"openblas": "OpenBLAS", "mkl": "MKL"}.get(pool["internal_api"], pool["internal_api"])
            kernel = f" ({pool['architecture']})" if pool.get("architecture") else ""
            return f"{name} {pool['version']}{kernel}", pool["num_threads"]
    return "a BLAS that does not tell its name", 1


def describe_blas() -> str:
    """The BLAS library and its threads, for people to read."""
    name, threads = blas()
    return f"{name}, {threads} thread{'s' if threads != 1 else ''} a rank"
