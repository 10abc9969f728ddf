import os
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from launch.lifeline import Lifelines, Rank

RANKS = 5
# A rank, until it is killed. It says what it would leave to processes that it starts.
STAY = (
    "import os, sys\nfrom launch.rank import held\nwith held(sys.argv[1]):\n"
    "    print('DDP_NUMPY_LAUNCHER' in os.environ, 'DDP_NUMPY_LIFELINE' in os.environ, flush=True)\n    input()\n"
)


class Busy(Lifelines):
    """On a machine so busy that it can be kept from hearing."""

    def __init__(self) -> None:
        super().__init__()
        self.heard, self.waits, self.may_hear = threading.Semaphore(0), threading.Event(), threading.Event()
        self.may_hear.set()

    def some_died(self) -> bool:
        """Wait for the news, however late they are."""
        return self._some_died.wait(60)

    def _hear(self, connection: socket.socket, said: bytearray) -> bool:
        if not self.may_hear.is_set():
            self.waits.set()
            self.may_hear.wait()
        more = super()._hear(connection, said)
        if said:  # of its attempts a rank keeps one connection, and has said nothing on the others
            self.heard.release()
        return more


@pytest.fixture
def lifelines() -> Iterator[Busy]:
    with Busy() as lifelines:
        yield lifelines
        lifelines.may_hear.set()


def start(lifelines: Lifelines, rank: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", STAY, str(rank)]
    env = {**os.environ, **lifelines.env}
    process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "False True\n"
    return process


@pytest.fixture
def ranks(lifelines: Busy) -> Iterator["list[subprocess.Popen[str]]"]:
    started = [start(lifelines, rank) for rank in range(RANKS)]
    for _ in started:
        assert lifelines.heard.acquire(timeout=60)
    yield started
    for process in started:
        end(process)


def end(process: "subprocess.Popen[str]") -> None:
    process.kill()
    process.communicate()


def connect(lifelines: Lifelines) -> tuple[socket.socket, bytes]:
    """A connection, and the token that a rank would show."""
    _, port, token = lifelines.env["DDP_NUMPY_LAUNCHER"].split(":")
    return socket.create_connection(("127.0.0.1", int(port))), token.encode()


@pytest.mark.parametrize("first", range(RANKS))
def test_the_first_to_die_is_known_though_all_have_gone_before_one_can_look(
    first: int, lifelines: Busy, ranks: "list[subprocess.Popen[str]]"
) -> None:
    lifelines.may_hear.clear()
    sixth = start(lifelines, RANKS)
    assert lifelines.waits.wait(60)
    for process in (ranks[first], *ranks):
        end(process)
    lifelines.may_hear.set()
    died = lifelines.some_died()
    end(sixth)  # only now: of who has just spoken epoll tells before all others, also if it has died after them
    assert died
    assert lifelines.first_dead() == Rank(str(first), socket.gethostname())


def test_who_comes_to_its_end_has_not_died(lifelines: Busy, ranks: "list[subprocess.Popen[str]]") -> None:
    assert ranks[1].communicate("\n") == ("", None)
    assert lifelines.first_dead() is None
    end(ranks[3])
    assert lifelines.some_died()
    assert lifelines.first_dead() == Rank("3", socket.gethostname())


def test_ranks_that_are_ended_on_purpose_have_not_died(lifelines: Busy, ranks: "list[subprocess.Popen[str]]") -> None:
    connection, token = connect(lifelines)
    with connection:
        connection.sendall(token + b" 0 a\nx")
        assert lifelines.some_died()
    end(ranks[3])
    assert lifelines.first_dead() is None


def test_a_connection_that_the_network_ends_is_no_death_of_a_rank(lifelines: Busy) -> None:
    connection, token = connect(lifelines)
    connection.sendall(token + b" 0 a\n")
    assert lifelines.heard.acquire(timeout=60)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # close now means reset
    connection.close()
    assert lifelines.heard.acquire(timeout=60)
    assert lifelines.first_dead() is None


def test_only_who_has_the_token_is_heard(lifelines: Busy) -> None:
    for said in (b"", b"\n!", b"0 a\n!", b"other 0 a\n!", b"TOKEN 0\n!", b"TOKEN 0 a", b"\xff\n!", 2000 * b"x"):
        connection, token = connect(lifelines)
        with connection:
            connection.sendall(said.replace(b"TOKEN", token))
    assert lifelines.first_dead() is None
    assert not lifelines.ending.is_set()


def test_what_is_to_be_done_when_the_job_ends_is_done(lifelines: Busy) -> None:
    done = threading.Event()
    lifelines.when_ending(done.set)
    connection, token = connect(lifelines)
    with connection:
        connection.sendall(token + b" 0 a\n!")
        assert done.wait(60)


def test_a_rank_that_gets_no_answer_goes_on_without(lifelines: Busy) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        env = {**os.environ, "DDP_NUMPY_LAUNCHER": f"127.0.0.1:{port}:token"}
        command = [sys.executable, "-c", STAY, "0"]
        done = subprocess.run(command, env=env, input="\n", capture_output=True, text=True, timeout=60)
        for caller in callers:
            caller.close()
    assert (done.returncode, done.stdout) == (0, "False False\n"), done.stderr
