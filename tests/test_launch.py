"""The launcher's parts that start nothing: hosts, and what each MPI's mpirun is told."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ddp_numpy.base import messages as messages_of_the_package
from launch import job, options
from launch.commands import cli
from launch.errors import LaunchError
from launch.flavours import FLAVOURS, Job, note, recognize
from launch.hosts import parse_hosts, place, read_hostfile
from launch.job import Ending, Process
from launch.messages import one_line, shell
from launch.options import Launch, check_program, rank_program
from launch.rank import Log, Stream
from launch.restart import Restarts
from launch.signals import Signalled, Signals

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
        ("openmpi", {"hidden": {"SECRET": "s"}}, "mpirun -n 6 --bind-to none -x SECRET python -m x"),
        ("mpich", {"hidden": {"SECRET": "s"}}, "mpirun -n 6 -bind-to none python -m x"),
        ("intelmpi", {"hidden": {"SECRET": "s"}}, "mpirun -genv I_MPI_PIN off -n 6 python -m x"),
        ("srun", {"hidden": {"SECRET": "s"}}, "mpirun --ntasks 6 --mpi=pmi2 --cpu-bind=none python -m x"),
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


@pytest.mark.parametrize(
    "text", ["", "a:", "a:0", "a:x", "a b", "a,,b", ":4", "a:4,a:2", "-x", "a;rm", "a:" + 5000 * "9"]
)
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


@pytest.mark.parametrize(("kind", "reason"), [("fifo", "not a regular file"), ("large", "larger than 16 MiB")])
def test_hostfiles_that_would_take_long_to_read(kind: str, reason: str, tmp_path: Path) -> None:
    hostfile = tmp_path / "hosts"
    if kind == "fifo":
        os.mkfifo(hostfile)
    else:
        with hostfile.open("wb") as file:
            file.truncate(100 * 2**20)
    with pytest.raises(LaunchError, match=f"can't read the hostfile: {reason}"):
        read_hostfile(hostfile)


def test_ranks_fill_hosts_in_order() -> None:
    assert place([("a", 4), ("b", 4)], 6) == (("a", 4), ("b", 2))
    assert place([("a", 4), ("b", 4)], 3) == (("a", 3),)
    assert place([("a", None), ("b", None)], 5) == (("a", 3), ("b", 2))
    assert place([("a", None), ("b", None), ("c", None), ("d", None)], 5) == (("a", 2), ("b", 1), ("c", 1), ("d", 1))
    assert place([("a", None), ("b", None)], 1) == (("a", 1),)
    assert place([("a", None), ("b", 3)], 4) == (("a", 1), ("b", 3))
    with pytest.raises(LaunchError, match="9 ranks, but the hosts have 8 slots"):
        place([("a", 4), ("b", 4)], 9)


def test_modules_are_found_without_importing_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "__init__.py").write_text("raise RuntimeError")
    (tmp_path / "here" / "job.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    check_program("here.job")
    check_program("ddp_numpy.train")
    check_program("json.tool")
    for package in ("json", "here"):
        with pytest.raises(LaunchError, match=f"-m {package}: a package without a module __main__"):
            check_program(package)
    for module in ("sys", "_json"):
        with pytest.raises(LaunchError, match=f"-m {module}: not written in Python"):
            check_program(module)
    check_program("here/job.py")
    with pytest.raises(LaunchError, match=r"gone\.py: there is no such script here"):
        check_program("gone.py")
    for module in ("gone", "here.gone", "here.job.gone", "ddp_numpy.gone", ".x", ""):
        with pytest.raises(LaunchError, match="no module named"):
            check_program(module)


def test_a_removed_working_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    check_program("ddp_numpy.train")
    with pytest.raises(LaunchError, match="no module named 'gone'"):
        check_program("gone")
    with pytest.raises(LaunchError, match="--log-dir logs: the working folder was removed"):
        rank_program(FLAVOURS["mpich"], "json.tool", (), Path("logs"))


def test_streams_mark_whole_lines(tmp_path: Path) -> None:
    with open(tmp_path / "shown", "w+") as shown:
        stream = Stream(shown, "rank 1 on h: ")
        stream.log = Log(str(tmp_path / "logs"), "1", stream.write)
        for text in ("Trace", "back\n  line\nerror: bad", "\n\n", "half"):
            stream.write(text)
        stream.flush()
        shown.seek(0)
        assert shown.read() == "rank 1 on h: Traceback\nrank 1 on h:   line\nerror: bad\n\nrank 1 on h: half"
        assert (tmp_path / "logs" / "rank-1.log").read_text() == "Traceback\n  line\nerror: bad\n\nhalf"
        assert stream.encoding == shown.encoding


@pytest.mark.parametrize("instead", ["link", "fifo", "folder", "no folder"])
def test_a_log_is_written_to_no_file_of_a_strangers(instead: str, tmp_path: Path) -> None:
    own, place, said = tmp_path / "own", tmp_path / "logs" / "rank-0.log", []
    own.write_text("own")
    if instead != "no folder":
        place.parent.mkdir()
    if instead == "link":
        place.symlink_to(own)
    elif instead == "fifo":
        os.mkfifo(place)
    elif instead == "folder":
        place.mkdir()
    else:
        place.parent.touch()
    log = Log(str(place.parent), "0", said.append)
    log.write("text")
    assert own.read_text() == "own"
    (line,) = said
    assert line.startswith(f"warning: '{place}': ")


class Full:
    """A stream on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        self.write("")


def test_a_stream_that_takes_nothing_ends_nothing() -> None:
    streams: list[Any] = [Stream(Full()), Stream(Full(), "rank 0 on h: "), Stream(None)]  # type: ignore[arg-type]
    for stream in streams:
        print("text", file=stream, flush=True)


def test_names_from_anywhere_are_one_printable_line() -> None:
    for text in ("plain", "a\x1b[31mb", "x\nerror: forged\r", "é…", "\udcff", 5000 * "9", 900 * "ab "):
        assert one_line(text) == messages_of_the_package.one_line(text)
        assert one_line(text).isprintable()


def test_words_reach_the_shell_as_they_are_in_one_printable_line() -> None:
    words = ["", "a b", "it's", "x\nrm -rf ~", "\r\x1b[31m'\\", "é\n", os.fsdecode(b"\xff"), "$HOME", "\u2028"]
    line = shell([sys.executable, "-c", "import os, sys; print(list(map(os.fsencode, sys.argv[1:])))", *words])
    assert line.isprintable()
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"{list(map(os.fsencode, words))}\n"


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["-n", "2", "a.py", "-n", "3", "--help"], "-n 2 … a.py -n 3 --help"),
        (["--np=2", "--", "a.py", "--", "x"], "-n 2 … a.py -- x"),
        (["-n2", "--threads", "2", "a.py", "b.py"], "-n 2 … a.py b.py"),
        (["-n", "2", "-m", "json.tool", "a.py", "-n", "3"], "-n 3 … json.tool a.py"),
        (["-n", "2", "--data", "a.py", "-n", "3"], "-n 3 … ddp_numpy.train --data a.py"),
        (["-n", "2", "--", "-n", "3"], "-n 2 … ddp_numpy.train -n 3"),
    ],
)
def test_which_words_are_the_jobs(
    arguments: list[str], runs: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").touch()
    done = CliRunner().invoke(cli, ["run", "--dry-run", *arguments])
    before, _, words = done.output.strip().partition(" -bind-to ")
    assert f"{before.partition('mpirun ')[2]} … {words.partition(' PMI_RANK ')[2].removeprefix(repr(''))[1:]}" == runs


ALREADY = ("--resume", "old", "--out")


def test_until_its_own_first_checkpoint_a_job_starts_as_the_user_asked(tmp_path: Path) -> None:
    asked = (*ALREADY, str(tmp_path))
    restarts = Restarts(3, asked, rank_0_is_here=True)
    assert restarts.again(Ending(9))
    assert restarts.arguments == asked
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "step-000000004.npz").touch()
    assert restarts.again(Ending(9))
    assert restarts.arguments == (*asked, "--resume", "auto")


@pytest.mark.parametrize(("here", "restarts_made"), [(True, 1), (False, 5)])
def test_a_job_that_dies_before_it_makes_its_folder_is_given_up(here: bool, restarts_made: int, tmp_path: Path) -> None:
    restarts = Restarts(5, ("--out", str(tmp_path / "never")), rank_0_is_here=here)
    while restarts.again(Ending(1)):
        pass
    assert restarts.made == restarts_made


IGNORES_SIGTERM = """
import signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write("there")
sys.stdout.flush()
time.sleep(60)
"""


def test_a_process_that_can_not_be_killed_is_left_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(job, "_GRACE_SECONDS", 0.2)
    kill, start = os.kill, time.monotonic()
    with Process([sys.executable, "-c", IGNORES_SIGTERM], stdout=subprocess.PIPE) as process:
        assert process.process.stdout is not None
        assert process.process.stdout.read(5) == b"there"
        monkeypatch.setattr(os, "kill", lambda *_: None)  # as if it waited for a disk
    assert time.monotonic() - start < 20
    assert capsys.readouterr().err == f"warning: still there though killed: process {process.process.pid}\n"
    kill(process.process.pid, signal.SIGKILL)
    process.process.communicate()


def test_a_command_that_can_not_be_started_is_one_line() -> None:
    for command, reason in ((["/gone"], "/gone: No such file"), (["true", 3_000_000 * "x"], "true: Argument list too")):
        with pytest.raises(LaunchError, match=f"can't start {reason}"):
            Process(command)


def signalled_before_and_while_it_ends(number: signal.Signals, started: list[Process]) -> None:
    with Signals() as signals:
        os.kill(os.getpid(), number)  # while nothing waits
        with Process([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
            started.append(process)
            with pytest.raises(Signalled), signals.waiting():
                process.process.wait()
            os.kill(os.getpid(), signal.SIGINT)  # another one, while the job is ended


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_no_signal_is_lost_or_leaves_a_process_behind(number: signal.Signals) -> None:
    started: list[Process] = []
    with pytest.raises(Signalled) as raised:
        signalled_before_and_while_it_ends(number, started)
    assert raised.value.number == number
    assert started[0].process.poll() is not None


def test_signals_to_the_job_reach_it_though_it_has_not_been_started_yet() -> None:
    says = "import signal; signal.sigwait([signal.SIGUSR1]); print('got it')"
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # the process inherits that it waits
        with Process([sys.executable, "-c", says], stdout=subprocess.PIPE) as process:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            signals.pass_on_to(process.process)
            assert process.process.communicate(timeout=60)[0] == b"got it\n"


def test_hosts_that_were_started_are_ended_if_the_next_can_not_be(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Second(Process):
        def __init__(self, command: list[str], **streams: Any) -> None:
            if started:
                raise LaunchError("no more")
            super().__init__([sys.executable, "-c", "import time; time.sleep(60)"], **streams)
            started.append(self.process)

    monkeypatch.setattr(options, "Process", Second)
    launch = Launch(2, "a,b", None, "auto", None, "none", (), "")
    with Signals() as signals, pytest.raises(LaunchError, match="no more"):
        launch.reach(launch.job(("true",)), signals)
    assert started[0].poll() is not None
    started[0].communicate()


def test_which_hosts_are_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SLURM_JOB")]:
        monkeypatch.delenv(name)

    def here(hosts: str | None, mpi_args: str = "") -> tuple[bool, bool]:
        launch = Launch(2, hosts, None, "auto", None, "none", (), mpi_args)
        return launch.rank_0_is_here, launch.all_ranks_are_here

    assert here(None) == (True, True)
    assert here("localhost:2") == (True, True)
    assert here("localhost,b") == (True, False)
    assert here("b,localhost") == (False, False)
    assert here(None, "-f hosts") == (True, False)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert here(None) == (False, False)


def test_the_launcher_imports_neither_numpy_nor_mpi() -> None:
    script = "import sys, launch.commands; print([m for m in ('numpy', 'mpi4py', 'ddp_numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
