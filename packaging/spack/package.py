"""Spack finds this file in a repository of packages, under the name packages/py_ddp_numpy/package.py."""

from spack.package import default_args, depends_on, license, variant, version
from spack_repo.builtin.build_systems.python import PythonPackage


class PyDdpNumpy(PythonPackage):
    """Data-parallel training with NumPy and MPI: the number of ranks changes the time, never the result."""

    pypi = "ddp_numpy/ddp_numpy-1.0.0.tar.gz"

    license("MIT AND CC-BY-SA-3.0")

    # The checksum is known once the sdist is on PyPI: "spack checksum py-ddp-numpy" adds it.
    version("1.0.0")

    variant("formats", default=False, description="Read Parquet and Feather, and text packed by Zstandard")
    variant("report", default=False, description="Write reports and evaluation pages, with Matplotlib")

    depends_on("python@3.11:", type=("build", "run"))
    depends_on("py-hatchling@1.27:", type="build")

    # The MPI is that of py-mpi4py: "spack install py-ddp-numpy ^mpich" chooses one.
    with default_args(type=("build", "run")):
        depends_on("py-click@8.1.7:")
        depends_on("py-click-option-group@0.5.6:")
        depends_on("py-mpi4py@4.1:")
        depends_on("py-numpy@2.2:")
        depends_on("py-pandas@2.2.3:")
        depends_on("py-platformdirs@4.0:")
        depends_on("py-pooch@1.8:")
        depends_on("py-rich@13.7:")
        depends_on("py-threadpoolctl@3.5:")
        depends_on("py-tomli-w@1.0:")

    depends_on("py-pyarrow@18:", type="run", when="+formats")
    depends_on("py-zstandard@0.23:", type="run", when="+formats")
    depends_on("py-matplotlib@3.10.8:", type="run", when="+report")

    import_modules = ("ddp_numpy", "launch")  # others need packages that Spack does not have
