"""Jobs that Python starts: their lines as they come, their errors, and their end on every way out of the block."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobs import JOB_SECONDS, MARK, RANK_1_FAILS, STAY, gone_within, kill, left_of
from tables import classified_rows, write_known_csv

from launch.call import JobFailedError, start

STUBBORN = "import signal\nfor s in (signal.SIGTERM, signal.SIGINT): signal.signal(s, signal.SIG_IGN)\n" + STAY
# Starts the module `stay` on two ranks, and says when both are there.
CALLER = (
    "import sys\nfrom launch.call import start\nwith start('run', '-n', 2, '-m', 'stay') as lines:\n"
    "    for number, line in enumerate(lines):\n        if number == 1:\n"
    "            sys.stdout.write('both are there\\n')\n            sys.stdout.flush()\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder of a job, which is also the mark of all its processes."""
    (tmp_path / "stay.py").write_text(STAY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MARK, str(tmp_path))
    yield tmp_path
    kill(left_of(str(tmp_path)))


def run(*words: object) -> list[str]:
    with start("run", "--timeout", JOB_SECONDS, *words) as lines:
        return list(lines)


def test_lines_come_while_the_job_runs(folder: Path) -> None:
    (folder / "talk.py").write_text(
        "import pathlib, sys, time\nsys.stdout.write('first\\n')\nsys.stdout.flush()\n"
        "while not pathlib.Path('go').exists():\n    time.sleep(0.02)\nsys.stderr.write('second\\n')\n"
    )
    with start("run", "-n", 1, "--timeout", JOB_SECONDS, "-m", "talk") as lines:
        assert next(lines) == "first"
        (folder / "go").touch()
        assert [line.rpartition(": ")[2] for line in lines] == ["second"]  # behind the rank and its host
    assert not left_of(str(folder))


def test_words_are_those_of_the_command_line(folder: Path) -> None:
    (folder / "launch.py").write_text("raise SystemExit('the launch.py of the working folder')")
    (folder / "show.py").write_text("import sys\nsys.stdout.write(f'{sys.argv[1:]}\\n')\n")
    assert run("-n", 2, "-m", "show", "--lr", 0.5, "--data", folder / "a b.csv") == 2 * [
        f"['--lr', '0.5', '--data', '{folder}/a b.csv']"
    ]
    with start("sbatch", "--time", 10) as lines:
        assert next(lines).startswith("#!/bin/")


def test_a_progress_bar_is_not_among_the_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_known_csv(folder / "t.csv", *classified_rows(60))
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in every kernel of Jupyter
    lines = run("-n", 2, "--data", "t.csv", "--epochs", 2)
    assert [line.split()[0] for line in lines[-2:]] == ["1", "2"]
    assert not any("\x1b" in line for line in lines)


def test_a_failing_job_is_one_error(folder: Path) -> None:
    (folder / "fail.py").write_text(RANK_1_FAILS)
    (folder / "nine.py").write_text("import sys\nsys.stdout.write('the end\\n')\nsys.exit(9)\n")
    for words, status, reason in (
        (("-n", 2, "--lr", -3), 2, r"error: .*'--lr': -3\.0 is not in the range"),
        (("-n", 1, "-m", "nine"), 9, "the end"),
        (("-n", 2, "-m", "fail"), 1, r"(?s).*rank 1 on .*Traceback .*ValueError: boom"),
    ):
        with pytest.raises(JobFailedError, match=reason) as raised:
            run(*words)
        assert raised.value.status == status
        assert str(raised.value).startswith(f"the job ended with status {status}: ")
        assert not left_of(str(folder))


@pytest.mark.parametrize(
    "stubborn", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ranks", "ranks that ignore signals"]
)
def test_no_process_outlives_the_block(stubborn: bool, folder: Path) -> None:
    if stubborn:
        (folder / "stay.py").write_text(STUBBORN)
    with contextlib.suppress(ZeroDivisionError), start("run", "-n", 2, "-m", "stay") as lines:
        assert {next(lines), next(lines)} == {"rank 0 of 2", "rank 1 of 2"}
        assert len(left_of(str(folder))) >= 4, "the launcher, mpirun and the ranks"
        raise ZeroDivisionError
    assert not left_of(str(folder))


def test_leaving_early_is_no_error(folder: Path) -> None:
    with start("run", "-n", 2, "-m", "stay") as lines:
        for line in lines:
            assert line.startswith("rank ")
            break
    assert not left_of(str(folder))
    with start("run", "-n", 2, "-m", "stay"):
        pass  # perhaps before the launcher has started anything
    assert not left_of(str(folder))


def test_a_sweep_ends_too(folder: Path) -> None:
    with start("scaling", "--ranks", 2, "--seconds", 60, "--out", "sweep"):
        deadline = time.monotonic() + JOB_SECONDS
        while len(left_of(str(folder))) < 5 and time.monotonic() < deadline:  # the sweep, a launcher, mpirun, ranks
            time.sleep(0.05)
        assert len(left_of(str(folder))) >= 5
    assert not left_of(str(folder))


@pytest.mark.parametrize(
    "stubborn", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["ranks", "ranks that ignore signals"]
)
def test_an_interrupt_ends_the_job(stubborn: bool, folder: Path) -> None:
    if stubborn:
        (folder / "stay.py").write_text(STUBBORN)
    with calling() as caller:
        for _ in range(4):  # an impatient person
            os.killpg(caller.pid, signal.SIGINT)  # as Jupyter interrupts a kernel
            time.sleep(0.2)
        _, err = caller.communicate(timeout=30)
        assert "KeyboardInterrupt" in err
        assert not left_of(str(folder))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_the_job_ends_with_the_kernel(folder: Path) -> None:
    with calling() as caller:
        caller.kill()
        assert gone_within(5, folder)


def calling() -> "subprocess.Popen[str]":
    """A Python with a job, whose ranks are there."""
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert caller.stdout is not None
    assert caller.stdout.readline() == "both are there\n"
    return caller


def test_it_needs_neither_numpy_nor_mpi() -> None:
    code = "import sys, launch.call\nprint({'numpy', 'mpi4py', 'ddp_numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"
