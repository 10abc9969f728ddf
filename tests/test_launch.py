"""The launcher's parts that start nothing: hosts, and what each MPI's mpirun is told."""

import subprocess
import sys
from pathlib import Path

import pytest

from launch.errors import LaunchError
from launch.flavours import FLAVOURS, Job, note, recognize
from launch.hosts import parse_hosts, place, read_hostfile
from launch.options import check_module
from launch.rank import Stream

HYDRA = "HYDRA build details:\n    Version:                                 5.0.2\n"
INTEL = "Intel(R) MPI Library for Linux* OS, Version 2021.11 Build 20231005\n"
TWO_HOSTS = (("a", 4), ("b", 2))


def build(flavour: str, **job: object) -> str:
    settings = {"ranks": 6, "program": ("python", "-m", "x"), **job}
    return " ".join(FLAVOURS[flavour].build("mpirun", Job(**settings)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "flavour"),
    [
        (HYDRA, "mpich"),
        (INTEL, "intelmpi"),
        ("mpirun (Open MPI) 4.1.4\n\nReport bugs to", "openmpi4"),
        ("mpirun (Open MPI) 5.0.11\n", "openmpi"),
        ("mpirun (Open MPI) 10.0.1\n", "openmpi"),
        ("slurm-wlm 22.05.8\n", "srun"),
        ("slurm 23.11.4\n", "srun"),
        ("mpirun of somebody else", None),
        ("", None),
    ],
)
def test_flavours_are_told_apart_by_their_version(version: str, flavour: str | None) -> None:
    found = recognize(version)
    assert (found.name if found else None) == flavour


@pytest.mark.parametrize(
    ("flavour", "job", "command"),
    [
        ("mpich", {}, "mpirun -n 6 -bind-to none python -m x"),
        ("mpich", {"bind": "core", "env": {"A": "b c"}}, "mpirun -n 6 -bind-to core -genv A b c python -m x"),
        ("mpich", {"placement": TWO_HOSTS}, "mpirun -n 6 -bind-to none -hosts a:4,b:2 python -m x"),
        ("mpich", {"mpi_args": ("-iface", "eth0")}, "mpirun -n 6 -bind-to none -iface eth0 python -m x"),
        ("mpich", {"as_root": True, "oversubscribed": True}, "mpirun -n 6 -bind-to none python -m x"),
        ("openmpi", {}, "mpirun -n 6 --bind-to none python -m x"),
        ("openmpi", {"bind": "socket", "env": {"A": "1"}}, "mpirun -n 6 --bind-to package -x A=1 python -m x"),
        ("openmpi", {"placement": TWO_HOSTS}, "mpirun -n 6 --bind-to none --host a:4,b:2 python -m x"),
        (
            "openmpi",
            {"as_root": True, "oversubscribed": True},
            "mpirun -n 6 --bind-to none --allow-run-as-root --map-by slot:OVERSUBSCRIBE python -m x",
        ),
        (
            "openmpi4",
            {"as_root": True, "oversubscribed": True, "bind": "socket", "mpi_args": ("--mca", "btl", "self,tcp")},
            "mpirun -n 6 --bind-to socket --allow-run-as-root --oversubscribe --mca btl self,tcp python -m x",
        ),
        ("intelmpi", {}, "mpirun -genv I_MPI_PIN off -n 6 python -m x"),
        (
            "intelmpi",
            {"placement": TWO_HOSTS, "bind": "core", "env": {"A": "1"}},
            "mpirun -genv I_MPI_PIN_DOMAIN core -genv A 1 -host a -n 4 python -m x : -host b -n 2 python -m x",
        ),
        ("srun", {}, "mpirun --ntasks 6 --mpi=pmi2 --cpu-bind=none python -m x"),
        (
            "srun",
            {"placement": (("a", 3), ("b", 3)), "bind": "core", "env": {"A": "1,2"}, "mpi_args": ("--mpi=pmix",)},
            "env A=1,2 mpirun --ntasks 6 --mpi=pmi2 --cpu-bind=cores --nodelist a,b --ntasks-per-node=3 "
            "--mpi=pmix python -m x",
        ),
    ],
)
def test_what_each_mpirun_is_told(flavour: str, job: dict[str, object], command: str) -> None:
    assert build(flavour, **job) == command


def test_srun_can_not_place_unevenly() -> None:
    with pytest.raises(LaunchError, match="equally many ranks"):
        build("srun", placement=TWO_HOSTS)


def test_the_note_on_root_and_cores() -> None:
    job = Job(ranks=4, program=(), as_root=True, oversubscribed=True)
    assert note(FLAVOURS["mpich"], job) is None
    assert note(FLAVOURS["openmpi"], Job(ranks=4, program=())) is None
    assert note(FLAVOURS["openmpi"], job) == (
        "Open MPI refuses root and more ranks than cores unless told otherwise: told so"
    )


def test_hosts_and_hostfiles(tmp_path: Path) -> None:
    assert parse_hosts("a:4, b-2.lan") == [("a", 4), ("b-2.lan", None)]
    hostfile = tmp_path / "hosts"
    hostfile.write_text("# ours\na slots=4\n\nb-2.lan   # no slots\nc  slots = 2\n")
    assert read_hostfile(hostfile) == [("a", 4), ("b-2.lan", None), ("c", 2)]


@pytest.mark.parametrize("text", ["", "a:", "a:0", "a:x", "a b", "a,,b", ":4", "a:4,a:2", "-x", "a;rm"])
def test_hosts_that_are_none(text: str) -> None:
    with pytest.raises(LaunchError, match="--hosts"):
        parse_hosts(text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "a slots=0", "a slots=", "a 4", "a:4", "a max_slots=4", "a\na"])
def test_hostfiles_that_are_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(LaunchError, match="hosts: "):
        read_hostfile(tmp_path / "hosts")
    with pytest.raises(LaunchError, match="can't read the hostfile"):
        read_hostfile(tmp_path / "gone")


def test_ranks_fill_hosts_in_order() -> None:
    assert place([("a", 4), ("b", 4)], 6) == (("a", 4), ("b", 2))
    assert place([("a", 4), ("b", 4)], 3) == (("a", 3),)
    assert place([("a", None), ("b", None)], 5) == (("a", 3), ("b", 2))
    assert place([("a", None), ("b", 3)], 4) == (("a", 1), ("b", 3))
    with pytest.raises(LaunchError, match="9 ranks, but the hosts have 8 slots"):
        place([("a", 4), ("b", 4)], 9)


def test_modules_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "here" / "job.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    check_module("here.job")
    check_module("ddp_numpy.train")
    for module in ("gone", "here.gone", "here.job.gone", "ddp_numpy.gone", ".x", ""):
        with pytest.raises(LaunchError, match="no module named"):
            check_module(module)


def test_streams_mark_whole_lines(tmp_path: Path) -> None:
    with open(tmp_path / "shown", "w+") as shown, open(tmp_path / "log", "w+") as log:
        stream = Stream(shown, log, "rank 1 on h: ")
        for text in ("Trace", "back\n  line\nerror: bad", "\n\n", "half"):
            stream.write(text)
        stream.flush()
        shown.seek(0)
        log.seek(0)
        assert shown.read() == "rank 1 on h: Traceback\nrank 1 on h:   line\nerror: bad\n\nrank 1 on h: half"
        assert log.read() == "Traceback\n  line\nerror: bad\n\nhalf"
        assert stream.encoding == shown.encoding


def test_the_launcher_imports_neither_numpy_nor_mpi() -> None:
    script = "import sys, launch.__main__; print([m for m in ('numpy', 'mpi4py', 'ddp_numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
