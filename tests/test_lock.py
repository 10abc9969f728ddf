import os
import subprocess
import sys
from pathlib import Path

import pytest
from jobs import run_job

from ddp_numpy import InputError
from ddp_numpy.base.lock import FolderLock

# Takes a folder's lock, prints what it is told, and holds the lock until its stdin is closed.
HOLD = (
    "import sys; from pathlib import Path; from ddp_numpy.base.lock import FolderLock\n"
    "lock = FolderLock(Path(sys.argv[1]), print)\n"
    "print('locked', flush=True); sys.stdin.read(); lock.release()\n"
)
# Tries to take the locks of folders, and prints why each is refused.
TRY = (
    "import sys; from pathlib import Path; from ddp_numpy.base.lock import FolderLock, InputError\n"
    "for folder in sys.argv[1:]:\n"
    "    try: FolderLock(Path(folder), lambda warning: None)\n"
    "    except InputError as error: print(error)\n"
)
# A flock(2) as on a file system without locks. Python calls the C library's, and this one stands in front of it.
NO_FLOCK = "#include <errno.h>\nint flock(int file, int what) { errno = %s; return -1; }\n"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, pytest.fail)
    words = r"another job writes there: process \d+ on .+ since 20.+; choose another --out"
    with pytest.raises(InputError, match=words):
        FolderLock(tmp_path, pytest.fail)
    lock.release()
    assert names(tmp_path) == []
    (tmp_path / ".ddp_numpy.lock").write_text("process 1 on a machine that has lost power")
    FolderLock(tmp_path, pytest.fail).release()
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "dangling link", "pipe"])
def test_a_strangers_file_is_not_written_to(kind: str, tmp_path: Path) -> None:
    precious, path = tmp_path / "precious", tmp_path / "run" / ".ddp_numpy.lock"
    path.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(precious)
    if kind != "dangling link":
        precious.write_text("years of work")
    before = names(tmp_path)
    with pytest.raises(InputError, match=r"run/\.ddp_numpy\.lock: (a link|not a regular file), and not .*; remove it"):
        FolderLock(path.parent, pytest.fail)
    assert names(tmp_path) == before
    if kind != "dangling link":
        assert precious.read_text() == "years of work"


def test_a_lock_that_somebody_removed_is_not_removed_from_the_next_holder(tmp_path: Path) -> None:
    first = FolderLock(tmp_path, pytest.fail)
    (tmp_path / ".ddp_numpy.lock").unlink()
    second = FolderLock(tmp_path, pytest.fail)
    first.release()
    with pytest.raises(InputError, match="another job"):
        FolderLock(tmp_path, pytest.fail)
    second.release()
    assert names(tmp_path) == []


def test_a_folder_that_vanished_is_released(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    lock = FolderLock(tmp_path / "run", pytest.fail)
    (tmp_path / "run" / ".ddp_numpy.lock").unlink()
    (tmp_path / "run").rmdir()
    lock.release()


@pytest.fixture(scope="module", params=["ENOSYS", "ENOLCK", "EOPNOTSUPP"])
def without_locks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose processes find no locks on any file system."""
    library = tmp_path_factory.mktemp("flock") / "no_flock.so"
    source = (NO_FLOCK % request.param).encode()
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=source, check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    return {**os.environ, "LD_PRELOAD": str(library)}


def holding(folder: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    """A process that has tried to take the folder's lock, and stays if it has the lock."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], env=env, stdin=pipe, stdout=pipe, stderr=pipe, text=True
    )


def lines_until_locked(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        if line == "locked\n":
            return lines
        lines.append(line)
    pytest.fail(process.communicate()[1])


def test_without_locks_a_file_names_the_holder(without_locks: dict[str, str], tmp_path: Path) -> None:
    with holding(tmp_path, without_locks) as first:
        (warning,) = lines_until_locked(first)
        assert f"{tmp_path}: this file system has no locks (" in warning
        with holding(tmp_path, without_locks) as second:
            _, said = second.communicate()
        assert f"another job writes there: process {first.pid} on " in said
        assert f"remove {tmp_path}/.ddp_numpy.holder if that job is over" in said
        assert ".ddp_numpy.holder" in names(tmp_path)
        first.kill()
        first.wait()
        # The holder is gone, and its file is there: the next one takes over, and later ones see it.
        with holding(tmp_path, without_locks) as third:
            lines_until_locked(third)
            with holding(tmp_path, without_locks) as fourth:
                assert f"process {third.pid} on " in fourth.communicate()[1]
            third.communicate("")
    assert names(tmp_path) == []


def test_without_locks_another_hosts_file_stays(without_locks: dict[str, str], tmp_path: Path) -> None:
    texts = ("process 7 on mars since 2026-01-01 10:00:00\nmars pid:[4026531836] 7 7", "", "\0" * 5000, "a\n\xe9")
    paths = [tmp_path / str(number) / ".ddp_numpy.holder" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.parent.mkdir()
        path.write_text(text, encoding="latin-1")
    job = run_job(None, "-c", TRY, *(path.parent for path in paths), cwd=tmp_path, env=without_locks)
    assert (job.status, job.err) == (0, "")
    for path, text, said in zip(paths, texts, job.out.splitlines(), strict=True):
        assert f"remove {path} if that job is over" in said
        assert path.read_text(encoding="latin-1") == text


def test_training_goes_on_without_locks(without_locks: dict[str, str], tmp_path: Path) -> None:
    job = run_job(2, "-m", "ddp_numpy.train", "--epochs", "1", "--out", "run", cwd=tmp_path, env=without_locks)
    assert job.status == 0, job.err
    assert job.err.startswith("warning: run: this file system has no locks (")
    assert len(job.err.splitlines()) == 1
    assert not list((tmp_path / "run").glob(".*"))
