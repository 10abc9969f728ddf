"""BLAS threads: one a rank, because ranks are how cores are used."""

import os
import sys

import threadpoolctl

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


def default_to_one_thread() -> None:
    """Give this process one BLAS thread, unless the user's environment names a number.

    Best called before NumPy loads: its BLAS starts a thread a core while loading, which on a large node, with a
    rank a core, is thousands of threads. Where NumPy came first the threads are there, but stay idle.
    """
    if any(name in os.environ for name in _VARIABLES):
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    if "numpy" in sys.modules:
        threadpoolctl.threadpool_limits(1, user_api="blas")


def blas() -> tuple[str, int]:
    """The BLAS library at work with its version and its kernel for this CPU, and its number of threads."""
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
