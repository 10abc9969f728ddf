"""NumPy's BLAS library: its threads, one per rank, as each core is meant to have its own rank; and its kernel."""

import contextlib
import os
import sys

import threadpoolctl

_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")
_ZEN_5 = 26  # its family of CPUs
_CPU_BYTES = 16_384  # more than Linux says of one CPU


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


def choose_kernel() -> None:
    """Let OpenBLAS use AVX-512 on CPUs that it does not know, unless the user's environment chooses a kernel.

    To be called before NumPy is imported, as its BLAS looks at the environment then.
    """
    if "OPENBLAS_CORETYPE" not in os.environ and "numpy" not in sys.modules:
        with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            if kernel := kernel_for(file.read(_CPU_BYTES)):
                os.environ["OPENBLAS_CORETYPE"] = kernel


def kernel_for(cpuinfo: str) -> str | None:
    """The kernel that suits a CPU better than the one OpenBLAS finds; None if it finds the best. cpuinfo: Linux's text.

    OpenBLAS up to 0.3.31 does not know Zen 5, and takes kernels without AVX-512 there, with which a training step takes
    1.5 times as long (OpenBLAS #6029).
    """
    first, _, _ = cpuinfo.partition("\n\n")  # of its CPUs: they are alike
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in first.splitlines())}
    family = facts.get("cpu family", "")
    is_new = facts.get("vendor_id") == "AuthenticAMD" and family.isdecimal() and int(family) >= _ZEN_5
    has_avx512 = set(facts.get("flags", "").split()) >= {f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl")}
    return "SkylakeX" if is_new and has_avx512 else None


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
