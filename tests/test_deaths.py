import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from launch.deaths import FirstDeath

RANKS = 5


@pytest.fixture
def ranks() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that stay until they are killed, with a rank in their environment as an mpirun gives it."""
    command = [sys.executable, "-c", "input()"]
    started = [
        subprocess.Popen(command, env={**os.environ, "PMI_RANK": str(rank)}, stdin=subprocess.PIPE)
        for rank in range(RANKS)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system has no pidfds")
@pytest.mark.parametrize("first", range(RANKS))
def test_the_first_is_known_even_to_one_who_looks_when_all_are_gone(
    first: int, ranks: list[subprocess.Popen[bytes]]
) -> None:
    looked, found, waits, may_look = threading.Semaphore(0), threading.Event(), threading.Event(), threading.Event()

    def processes() -> list[int]:
        looked.release()
        if found.is_set():
            waits.set()
            may_look.wait()  # as on a machine too busy to let the watching thread run
        return [process.pid for process in ranks]

    # It goes on looking for a sixth rank.
    with FirstDeath(processes, "PMI_RANK", RANKS + 1) as death:
        looked.acquire()
        looked.acquire()  # the second look: the first is over
        found.set()
        waits.wait()
        for process in [ranks[first], *ranks]:
            process.kill()
            process.wait()
        may_look.set()
        assert death.rank() == first


def test_where_none_has_ended_none_is_named(ranks: list[subprocess.Popen[bytes]]) -> None:
    with FirstDeath(lambda: [process.pid for process in ranks], "PMI_RANK", RANKS) as death:
        assert death.rank() is None
