"""The launcher with real jobs: their output, their exit status, and their end."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from jobs import RANK_1_FAILS, STAY, Job, gone_within, left_of, run_job, staying
from several import Command, run_several
from tables import classified_rows, write_known_csv
from terminals import on_terminal

import ddp_numpy
import launch.__main__ as launched
from ddp_numpy import load_model


def launch(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None, timeout: float = 60) -> Job:
    return run_job(None, "-m", "launch", *arguments, cwd=cwd, env=env, timeout=timeout)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_known_csv(tmp_path / "t.csv", *classified_rows(60))
    (tmp_path / "stay.py").write_text(STAY)
    return tmp_path


def test_arguments_are_passed_on_in_order(folder: Path) -> None:
    (folder / "show.py").write_text("import sys; sys.stdout.write(f'{sys.argv}\\n')")
    job = launch("run", "-n", "2", "-m", "show", "--epochs", "5", "x", "-q", "--", "-n", "3", "--help", cwd=folder)
    assert job.status == 0, job.err
    assert job.out.count("'--epochs', '5', 'x', '-q', '-n', '3', '--help']") == 2


@pytest.mark.parametrize("ranks", ["1", "3"])
def test_training_through_the_launcher_is_training(ranks: str, folder: Path) -> None:
    options = ("--data", "t.csv", "--epochs", "2", "--dtype", "float64")
    job = launch("run", "-n", ranks, *options, "--out", "launched", cwd=folder)
    assert job.status == 0, job.err
    assert "1 thread a rank" in job.out
    plain = run_job(int(ranks), "-m", "ddp_numpy.train", *options, "--out", "plain", cwd=folder)
    assert plain.status == 0
    models = [load_model(folder / out / "model.npz") for out in ("launched", "plain")]
    assert models[0].digest() == models[1].digest()


def test_the_dry_run_is_the_command(folder: Path) -> None:
    job = launch("run", "-n", "2", "--env", "GREETING=hello world", "--dry-run", "-m", "hello", cwd=folder)
    assert (job.status, job.err) == (2, "error: -m hello: no module named 'hello'; install it, or start in the "
                                        "folder it is in\n")  # fmt: skip
    (folder / "hello.py").write_text("import os, sys; sys.stdout.write(os.environ['GREETING'] + '\\n')")
    job = launch("run", "-n", "2", "--env", "GREETING=hello world", "--dry-run", "-m", "hello", cwd=folder)
    assert job.status == 0, job.err
    pasted = subprocess.run(job.out, shell=True, cwd=folder, capture_output=True, text=True, timeout=60, check=True)
    assert pasted.stdout == "hello world\n" * 2


def test_threads(folder: Path) -> None:
    (folder / "show.py").write_text("import os, sys; sys.stdout.write(os.environ['OMP_NUM_THREADS'] + '\\n')")

    def threads(*arguments: str, **env: str) -> str:
        return launch("run", "-n", "1", *arguments, "-m", "show", cwd=folder, env=env).out.strip()

    assert threads() == "1"
    assert threads(OMP_NUM_THREADS="3") == "3"
    assert threads("--threads", "2", OMP_NUM_THREADS="3") == "2"
    assert threads("--threads", "auto") == str(len(os.sched_getaffinity(0)))


def test_a_script_runs_as_python_runs_it(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "beside.py").write_text("")
    (folder / "sub" / "show.py").write_text(
        "import beside, os, pickle, sys\nclass A: pass\n"
        "shown = sys.argv, sys.path[0], __name__, __file__, type(pickle.loads(pickle.dumps(A()))) is A\n"
        "sys.stdout.write(f'{shown}\\n')\n"
    )
    words = ("sub/show.py", "-n", "7", "--help", "x")
    job = launch("run", "-n", "2", *words, cwd=folder)
    assert job.status == 0, job.err
    assert job.out == 2 * run_job(None, *words, cwd=folder).out


def test_files_of_the_working_folder_take_no_place_of_the_launchers(folder: Path) -> None:
    for name in ("launch", "socket", "signal", "rank", "click"):
        (folder / f"{name}.py").write_text(f"raise SystemExit('{name} of the working folder')")
    (folder / "show.py").write_text("import sys; sys.stdout.write(f'{sys.path[0]}\\n')")
    launchers = [(str(Path(sys.executable).with_name("ddp-launch")),), (sys.executable, Path(launched.__file__))]
    for launcher in launchers:
        done = subprocess.run(
            [*launcher, "run", "-n", "2", "-m", "show"], cwd=folder, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout) == (0, f"{folder}\n{folder}\n"), done.stderr
    (folder / "launch.py").unlink()
    job = launch("run", "-n", "2", "-m", "show", cwd=folder)
    assert (job.status, job.out) == (0, f"{folder}\n{folder}\n"), job.err


def test_nobody_sees_what_lets_a_rank_speak_to_the_launcher(folder: Path) -> None:
    with staying(folder, 2, "--verbose") as job:
        environments = [process.environ() for process in left_of(str(folder))]
        (secret,) = {found["DDP_NUMPY_LAUNCHER"] for found in environments if "DDP_NUMPY_LAUNCHER" in found}
        address, _, token = secret.split(":")
        assert address == "127.0.0.1", "all ranks are on this host"
        arguments = [process.cmdline() for process in left_of(str(folder))]
        assert sum("rank.py" in " ".join(words) for words in arguments) >= 3, "mpirun and the ranks"
        assert any("hydra_pmi_proxy" in words[0] for words in arguments)
        assert token not in str(arguments)
        job.terminate()
        assert job.stderr is not None
        said = job.stderr.read()
    assert "rank.py" in said
    assert token not in said


FULL = "/dev/full"


@pytest.mark.parametrize("what", ["stdout", "stderr", "both", "closed", "head"])
def test_output_that_can_not_be_delivered_ends_nothing(what: str, folder: Path) -> None:
    (folder / "talk.py").write_text(
        "import pathlib, sys\nfrom ddp_numpy import world\ncomm = world()\n"
        "for _ in range(200):\n    print(300 * 'x', flush=True)\n    print(300 * 'x', file=sys.stderr, flush=True)\n"
        "comm.agree(None)\npathlib.Path(f'done-{comm.rank}').touch()\n"
    )
    redirections = {
        "stdout": f">{FULL}", "stderr": f"2>{FULL}", "both": f">{FULL} 2>&1", "closed": ">&- 2>&- <&-",
        "head": "2>&1 | head -1; exit ${PIPESTATUS[0]}",
    }  # fmt: skip
    command = f"{sys.executable} -m launch run -n 2 --log-dir logs -m talk {redirections[what]}"
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.glob("done-*")} == {"done-0", "done-1"}
    assert (folder / "logs" / "rank-1.log").stat().st_size == 200 * 2 * 301
    assert "Traceback" not in done.stdout + done.stderr


def test_commands_whose_output_nobody_takes_say_nothing(folder: Path) -> None:
    for command in ("", "--help", "run --help", "run --dry-run", "sbatch --time 1", "run --np x"):
        for redirection in (f">{FULL} 2>{FULL}", ">&- 2>&-", "| head -c 1; exit ${PIPESTATUS[0]}"):
            line = f"({sys.executable} -m launch {command} {redirection}) 2>&1"
            done = subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, timeout=60)
            assert done.returncode == (2 if command in ("", "run --np x") else 0), (line, done.stdout)
            assert "Traceback" not in done.stdout
            assert "Exception" not in done.stdout


def test_logs_on_a_full_disk_end_nothing(small_disk: Path, folder: Path) -> None:
    (folder / "talk.py").write_text(
        "from ddp_numpy import world\ncomm = world()\nfor _ in range(3000):\n    print(300 * 'x')\ncomm.agree(None)\n"
    )
    job = launch("run", "-n", "2", "--log-dir", small_disk, "-m", "talk", cwd=folder, timeout=30)
    assert job.status == 0, job.err
    assert len(job.out) == 2 * 3000 * 301
    lines = job.err.splitlines()
    assert len(lines) == 2, "each rank says once that it keeps no more"
    assert all("No space left on device; no output of this rank is kept from here on" in line for line in lines)


CTRL_C = """
import importlib.abc, os, signal, sys
class CtrlC(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "launch.flavours":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, CtrlC())
"""


def test_ctrl_c_while_the_launcher_starts_is_no_traceback(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(CTRL_C)
    job = launch("run", "-n", "2", "-m", "stay", cwd=folder, env={"PYTHONPATH": str(folder)})
    assert (job.status, job.out, job.err) == (-signal.SIGINT, "", "")


def test_no_command_is_the_usage(folder: Path) -> None:
    job = launch(cwd=folder)
    assert (job.status, job.out) == (2, "")
    assert job.err.startswith("Usage: python -m launch")


def test_the_version_is_printed_once(folder: Path) -> None:
    version = f"ddp_numpy {ddp_numpy.__version__}\n"
    for ranks, module in (
        (None, "launch"),
        (None, "ddp_numpy.verify"),
        (None, "ddp_numpy.train"),
        (3, "ddp_numpy.train"),
    ):
        job = run_job(ranks, "-m", module, "--version", cwd=folder)
        assert (job.status, job.out, job.err) == (0, version, "")


def test_the_default_is_a_rank_a_core_or_slurms_tasks(folder: Path) -> None:
    for env, ranks in (({}, len(os.sched_getaffinity(0))), ({"SLURM_NTASKS": "7"}, 7)):
        job = launch("run", "--dry-run", cwd=folder, env=env)
        assert f" -n {ranks} " in job.out


def test_the_exit_status_is_the_jobs(folder: Path) -> None:
    (folder / "end.py").write_text("import sys; sys.exit(int(sys.argv[1]))")
    for status in (0, 7, 75):
        assert launch("run", "-n", "2", "-m", "end", str(status), cwd=folder).status == status


def test_a_mistake_that_a_script_meets_keeps_its_status(folder: Path) -> None:
    (folder / "wrong.py").write_text("from ddp_numpy import load_data, world\nload_data('gone.csv', world())\n")
    job = launch("run", "-n", "2", "-m", "wrong", cwd=folder)
    assert job.status == 2, job.err
    assert job.err.startswith("error: gone.csv: no such file")


def test_errors_carry_rank_and_host(folder: Path) -> None:
    (folder / "fail.py").write_text(RANK_1_FAILS)
    job = launch("run", "-n", "3", "-m", "fail", cwd=folder)
    assert job.status == 1
    assert re.search(r"^rank 1 on \S+: ValueError: boom$", job.err, re.MULTILINE), job.err


def test_a_rank_that_fails_before_the_ranks_meet_ends_the_others(folder: Path) -> None:
    (folder / "half.py").write_text(
        "import os\nif os.environ['PMI_RANK'] == '0':\n    import nowhere\n"
        "from ddp_numpy import world\nworld().agree(None)\n"
    )
    job = launch("run", "-n", "3", "-m", "half", cwd=folder, timeout=30)
    assert job.status == 1
    assert re.search(r"^rank 0 on \S+: ModuleNotFoundError: No module named 'nowhere'$", job.err, re.MULTILINE), job.err


def test_mistakes_stay_one_line(folder: Path) -> None:
    job = launch("run", "-n", "3", "--epochs", "0", cwd=folder)
    assert (job.status, job.out) == (2, "")
    assert len(job.err.splitlines()) == 1
    assert job.err.startswith("error: Invalid value for '--epochs'")


def test_each_rank_has_a_log(folder: Path) -> None:
    (folder / "talk.py").write_text(
        "import sys\nfrom ddp_numpy import world\ncomm = world()\n"
        "sys.stdout.write(f'out {comm.rank}\\n')\nsys.stderr.write(f'err {comm.rank}\\n')\n"
    )
    job = launch("run", "-n", "3", "--log-dir", "logs/a", "-m", "talk", cwd=folder)
    assert job.status == 0, job.err
    assert sorted(job.out.splitlines()) == ["out 0", "out 1", "out 2"]
    for rank in range(3):
        assert (folder / "logs" / "a" / f"rank-{rank}.log").read_text() == f"out {rank}\nerr {rank}\n"


def test_the_progress_bar_gets_through_mpirun_to_a_terminal(folder: Path) -> None:
    options = ["run", "-n", "2", "--data", "t.csv", "--epochs", "4"]
    shown = on_terminal([sys.executable, "-m", "launch", *options], folder)
    assert "━" in shown
    assert "\x1b[1m" in shown  # the bold heading
    assert "━" not in launch(*options, cwd=folder).out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_launcher_ends_every_rank(number: signal.Signals, folder: Path) -> None:
    with staying(folder, 3) as job:
        job.send_signal(number)
        assert gone_within(5, folder)
        assert job.wait(5) == 128 + number


def test_a_job_under_nohup_outlives_a_hangup(folder: Path) -> None:
    with staying(folder, 3, before=("nohup",)) as job:
        job.send_signal(signal.SIGHUP)
        assert not gone_within(1, folder)
        job.send_signal(signal.SIGTERM)
        assert gone_within(5, folder)


def test_ranks_that_ignore_the_end_are_killed(folder: Path) -> None:
    ignoring = "import signal\nfor s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\n"
    (folder / "stay.py").write_text(ignoring + STAY)
    with staying(folder, 3) as job:
        job.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        job.send_signal(signal.SIGINT)  # an impatient person
        assert gone_within(5, folder)
        assert job.wait(5) == 128 + signal.SIGTERM


def test_a_killed_mpirun_takes_the_ranks_along(folder: Path) -> None:
    with staying(folder, 3) as job:
        (mpirun,) = psutil.Process(job.pid).children()
        mpirun.kill()
        assert gone_within(5, folder)
        assert job.wait(5) == 128 + signal.SIGKILL
        assert job.stderr is not None
        assert job.stderr.read() == "error: mpirun was killed, and all ranks with it\n"


def test_a_rank_that_ends_with_a_signals_number_was_not_killed(folder: Path) -> None:
    (folder / "nine.py").write_text("import sys\nfrom ddp_numpy import world\nworld()\nsys.exit(9)\n")
    job = launch("run", "-n", "2", "-m", "nine", cwd=folder)
    assert (job.status, job.error_lines) == (9, [])


def test_a_killed_launcher_takes_all_along(folder: Path) -> None:
    with staying(folder, 3) as job:
        job.kill()
        assert gone_within(5, folder)


def test_a_job_that_runs_too_long_is_ended(folder: Path) -> None:
    start = time.monotonic()
    # On a busy machine it may end before its ranks are there, and is to leave nothing then either.
    job = launch("run", "-n", "3", "--timeout", "5", "-m", "stay", cwd=folder)
    assert 5 < time.monotonic() - start < 17
    assert job.status == 124
    assert "error: the job ran longer than 5 s and was ended; see --timeout\n" in job.err


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (("-n", "0"), "'-n' / '--np': 0 is not in the range"),
    (("--hosts", "a;b"), "--hosts: 'a;b' is not a host and its slots"),
    (("--hosts", "a", "--hostfile", "b"), "give one of them"),
    (("--hostfile", "gone"), "gone: can't read the hostfile"),
    (("-n", "3", "--hosts", "a:2"), "3 ranks, but the hosts have 2 slots"),
    (("-m", "gone.module"), "no module named 'gone'"),
    (("--threads", "many"), "--threads: 'many' is not a whole number above 0 or auto"),
    (("--env", "X"), "--env: 'X' is not NAME=VALUE"),
    (("--mpi-args", "'open"), "--mpi-args: No closing quotation"),
    (("--mpi", "intelmpi"), "no mpirun of intelmpi: found "),
    (("--timeout", "-1"), "'--timeout'"),
    (("--log-dir", "t.csv/x", "--data", "t.csv"), "--log-dir t.csv/x: Not a directory"),
    (("--log-dir", ""), "'--log-dir': it is empty"),
    (("--log-dir", 300 * "a"), ": File name too long"),
    (("--hostfile", ""), "'--hostfile': it is empty"),
    (("--hostfile", os.fsdecode(b"\xff\n\x1b")), r"\udcff\n\x1b: can't read the hostfile"),
    (("--hosts", "a\nerror: b\x1b[31m"), r"--hosts: 'a\nerror: b\x1b[31m' is not a host"),
    (("-m", "a\nerror: b"), r"-m a\nerror: b: no module named"),
    (("-m", 300 * "a"), "…"),
    (("-m", "json"), "-m json: a package without a module __main__"),
    (("gone.py", "-n", "3"), "gone.py: there is no such script here"),
    (("--timeout", "nan"), "'--timeout': 'nan' is not a finite number"),
    (("--np", "1000000000"), "1000000000 ranks on one host are more than 1000 for each of its"),
    (("--np", "9" * 5000), "is not a valid integer"),
    (("--threads", "٣"), "--threads: '٣' is not a whole number above 0 or auto"),
    (("--env", "A\n=1"), r"--env: 'A\n=1' is not NAME=VALUE"),
]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Job]:
    """How the mistakes ended. One launcher makes them all, each in a folder of its own."""
    commands: dict[str, Command] = {}
    for arguments, _ in MISTAKES:
        folder = tmp_path_factory.mktemp("mistake")
        write_known_csv(folder / "t.csv", *classified_rows(60))
        commands[repr(arguments)] = (folder, ("run", *arguments))
    jobs = run_several("launch", commands)
    return {arguments: jobs[repr(arguments)] for arguments, _ in MISTAKES}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES)
def test_mistakes_of_the_command_line(
    arguments: tuple[str, ...], message: str, mistaken: dict[tuple[str, ...], Job]
) -> None:
    job = mistaken[arguments]
    assert (job.status, job.out) == (2, ""), job.err
    assert len(job.err.splitlines()) == 1
    assert job.err.startswith("error: ")
    assert message in job.err


# In place of ssh, a host that says what it likes.
RSH = "#!/bin/sh\nprintf '\\033[31mbad \\rerror: forged\\nerror: forged\\n' >&2\nexit 1\n"


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_what_a_host_says_can_not_forge_a_line(command: str, folder: Path) -> None:
    (folder / "rsh").write_text(RSH)
    (folder / "rsh").chmod(0o755)
    mpi_args = f"-launcher ssh -launcher-exec {folder / 'rsh'}"
    job = launch(command, "--hosts", "elsewhere:1", "--mpi-args", mpi_args, cwd=folder)
    (line,) = (job.out + job.err).splitlines()
    assert line.startswith(("error: ", "FAIL  hosts"))
    assert line.isprintable()
    assert r"elsewhere: \x1b[31mbad" in line


def test_no_mpirun_says_how_to_get_one(folder: Path) -> None:
    # A Python without an mpirun beside it: a link to this one, in a folder of its own.
    (folder / "bin").mkdir()
    (folder / "bin" / "python").symlink_to(sys.executable)
    env = {"PATH": str(folder), "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    job = run_job(None, "-m", "launch", "run", cwd=folder, env=env, python=folder / "bin" / "python")
    assert job.status == 2
    assert re.fullmatch(
        r"error: no mpirun beside this Python .* pip install 'ddp_numpy\[mpich\]' brings one\n", job.err
    )
