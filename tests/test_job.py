"""What the launcher does about shared memory that a job has left behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from launch.job import Process, _held

KILLED_WHILE_LARGE = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import sys
file = open(sys.argv[1], "w")
memory = bytearray(1 << 30)
memory[::4096] = bytes(len(memory) // 4096 * [1])
sys.stdout.write("there")
sys.stdout.flush()
sys.stdin.read()
''', sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.read(5)
child.kill()
"""


@pytest.mark.skipif(not Path("/dev/shm").exists(), reason="no folder of shared memory")
@pytest.mark.parametrize("name", ["mpich_shm_", "mpich_shar_tmp"])
def test_shared_memory_is_removed_that_a_process_on_its_way_out_has_open(name: str, tmp_path: Path) -> None:
    path = Path("/dev/shm", f"{name}{tmp_path.name}_{os.getpid()}")
    try:
        with Process([sys.executable, "-c", KILLED_WHILE_LARGE, str(path)]) as process:
            assert process.process.wait(20) == 0
        assert not path.exists()
    finally:
        path.unlink(missing_ok=True)


# Maps a file, and then opens and closes others without end.
HOLDS_AND_OPENS = """
import mmap, sys
with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 0)
sys.stdout.write("there")
sys.stdout.flush()
while True:
    files = [open("/dev/null") for _ in range(200)]
    for file in files:
        file.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_a_file_is_held_by_a_process_that_opens_and_closes_others(tmp_path: Path) -> None:
    path = tmp_path / "held"
    path.write_bytes(b"x")
    with subprocess.Popen([sys.executable, "-c", HOLDS_AND_OPENS, path], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.read(5) == b"there"
            assert all(_held(path) for _ in range(60))
        finally:
            process.kill()
    assert not _held(path)
