"""Which kernel OpenBLAS is told to take."""

import subprocess
import sys
from pathlib import Path

import pytest

from ddp_numpy.base.blas import kernel_for

AVX512 = "fpu avx avx2 avx512f avx512dq avx512cd avx512bw avx512vl"


def cpuinfo(vendor: str, family: int, flags: str) -> str:
    one = f"processor\t: 0\nvendor_id\t: {vendor}\ncpu family\t: {family}\nflags\t\t: {flags}\nbugs\t\t:\n\n"
    return one + one[:60]  # the second of its CPUs, as far as it was read


@pytest.mark.parametrize(
    ("vendor", "family", "flags", "kernel"),
    [
        ("AuthenticAMD", 26, AVX512, "SkylakeX"),
        ("AuthenticAMD", 27, AVX512, "SkylakeX"),
        ("AuthenticAMD", 26, "fpu avx avx2", None),
        ("AuthenticAMD", 26, AVX512.replace(" avx512vl", ""), None),
        ("AuthenticAMD", 25, AVX512, None),  # which OpenBLAS knows
        ("GenuineIntel", 6, AVX512, None),
    ],
)
def test_a_cpu_that_openblas_does_not_know_gets_its_kernel(
    vendor: str, family: int, flags: str, kernel: str | None
) -> None:
    assert kernel_for(cpuinfo(vendor, family, flags)) == kernel


@pytest.mark.parametrize("text", ["", "nonsense", "cpu family : x\nvendor_id : AuthenticAMD", "::\n\n::"])
def test_what_says_nothing_of_a_cpu_chooses_nothing(text: str) -> None:
    assert kernel_for(text) is None


def kernel(**env: str) -> str:
    code = "import ddp_numpy, threadpoolctl as t; print(t.threadpool_info()[0]['architecture'])"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


def test_the_environment_wins() -> None:
    assert kernel(OPENBLAS_CORETYPE="Nehalem") == "Nehalem"


def test_here() -> None:
    expected = kernel_for(Path("/proc/cpuinfo").read_text())
    if expected is None:
        pytest.skip("OpenBLAS knows this CPU, or it has no AVX-512")
    assert kernel() == expected
