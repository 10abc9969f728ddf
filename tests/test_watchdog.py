"""The watchdog's threads, without an MPI: what the judge makes of what it has heard, and what a reporter does about it.

In tests/faults they are at work.
"""

import os
import queue
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ddp_numpy.comm.watchdog import _Judge, _Reporter, _Thread
from ddp_numpy.comm.whereabouts import Place, State, Whereabouts

HOSTS, TOKEN = ["a", "a", "b", "b"], bytes(16)
Pair = tuple[_Judge, _Reporter, Whereabouts]


def link() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("127.0.0.1", 0))
    return made


@pytest.fixture
def judge() -> _Judge:
    """A judge whose thread has ended."""
    judge = _Judge(link(), TOKEN, HOSTS, Whereabouts())
    judge.stop()
    judge._timeout = 3.0
    return judge


def judged(judge: _Judge, states: dict[int, State], *, seconds: float) -> Any:
    """What the judge says if ranks 1 to 3 have not moved from these states for so long."""
    judge._states = dict(states)
    assert judge._judge(100.0) is None or seconds == 0
    return judge._judge(100.0 + seconds)


def test_who_was_lost_at_the_same_time_is_named_together(judge: _Judge) -> None:
    judge._heard = {1: 9.9, 2: 7.2, 3: 7.05}  # a beat every 0.3 s, and the last one of rank 3 came before that of 2
    assert judge._judge(10.0) is None
    found = judge._judge(10.1)
    assert found is not None
    assert found[0].startswith("ranks 2 on b, 3 on b gave no sign of life for 3 s")


WAITS, LATE = State(8, 7, Place.TRAINING), State(7, 7, Place.TRAINING)


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({1: WAITS, 2: LATE, 3: WAITS}, "ranks 0 on a, 2 on b kept the others waiting for 3 s in training"),
        ({1: WAITS, 2: State(7, 7), 3: WAITS}, "ranks 0 on a, 2 on b kept"),  # it never came to training
        ({1: WAITS, 2: State(7, 7, Place.UNHURRIED), 3: WAITS}, None),
        ({1: State(8, 7), 2: LATE, 3: State(8, 7)}, None),  # who waits is not in training: rank 2 evaluates
        ({1: LATE, 2: LATE, 3: LATE}, None),  # nobody waits
    ],
)
def test_who_lets_the_others_wait_in_training_is_named(
    judge: _Judge, states: dict[int, State], words: str | None
) -> None:
    judge._here.begun = judge._here.ended = 7
    assert judged(judge, states, seconds=2.9) is None
    found = judged(judge, states, seconds=3.1)
    assert found[0].startswith(words) if words else found is None


def test_ranks_in_calls_that_do_not_fit_wait_for_each_other(judge: _Judge) -> None:
    judge._here.begun, judge._here.ended, judge._here.place = 8, 7, Place.TRAINING
    found = judged(judge, dict.fromkeys((1, 2, 3), State(8, 7)), seconds=3.1)
    assert found[0].startswith("all ranks wait for each other for 3 s")


def test_a_rank_that_has_left_ends_the_job_as_soon_as_another_waits_for_it(judge: _Judge) -> None:
    left = State(7, 7, Place.LEFT, exit_status=3)
    judge._here.begun = judge._here.ended = 7
    assert judged(judge, {1: left, 2: LATE, 3: LATE}, seconds=1000) is None
    error, status, stacks = judged(judge, {1: left, 2: WAITS, 3: LATE}, seconds=0)
    assert error == "rank 1 on a left with status 3, and rank 2 on b still waited"
    assert (status, stacks) == (3, False)


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A judge and a reporter at work, with the default timeout of 300 s, and where the reporter's rank is."""
    here = Whereabouts()
    judge = _Judge(link(), TOKEN, HOSTS[:2], Whereabouts())
    reporter = _Reporter(link(), TOKEN, 1, HOSTS, here)
    assert reporter.reach("localhost", judge._link.getsockname()[1])
    judge.begin([1])
    yield judge, reporter, here
    reporter.stop()
    judge.stop()


def within(seconds: float, happens: Any) -> bool:
    end = time.monotonic() + seconds
    while not happens() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(happens())


def test_a_new_timeout_is_heard_of_at_once(pair: Pair) -> None:
    judge, reporter, _ = pair
    assert reporter._timeout == 300
    judge.set_timeout(7.5)
    assert within(3, lambda: reporter._timeout == judge._timeouts[1] == 7.5)


def test_a_rank_that_no_longer_beats_is_not_late_but_silent(judge: _Judge) -> None:
    judge._heard = {2: 98.0}
    assert judged(judge, {1: WAITS, 2: LATE, 3: WAITS}, seconds=0.9) is None
    judge._moved = 90.0, judge._states.copy()
    assert judge._judge(100.9) is None
    found = judge._judge(101.1)
    assert found is not None
    assert found[0].startswith("rank 2 on b gave no sign of life")


def test_leaving_is_heard_of_at_once_and_the_others_are_asked(pair: Pair) -> None:
    judge, reporter, here = pair
    here.place = Place.LEFT
    reporter.wake()
    assert within(3, lambda: 1 in judge._states and judge._states[1].place == Place.LEFT)
    here.begun = 5  # its next beat is due in 30 s
    assert within(3, lambda: judge._states[1].begun == 5)


@pytest.mark.usefixtures("pair")
def test_the_end_is_heard_of_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: queue.Queue[tuple[int, int, float]] = queue.Queue()

    def end(self: _Thread, error: str | None, status: int = 1, stacks: bool = True) -> None:
        ended.put((self._rank, status, time.monotonic()))
        self._over = True

    monkeypatch.setattr(_Thread, "_end_job", end)
    monkeypatch.setattr(_Judge, "_judge", lambda self, now: ("some reason", 5, True))
    found = {rank: (status, when) for rank, status, when in (ended.get(timeout=5), ended.get(timeout=5))}
    assert {rank: status for rank, (status, _) in found.items()} == {0: 5, 1: 5}
    assert abs(found[0][1] - found[1][1]) < 0.9, "before rank 0 takes all others along"


class Unreachable(socket.socket):
    """A socket whose network is down."""

    def sendto(self, *arguments: Any) -> int:
        if arguments[0]:
            raise OSError(101, os.strerror(101))
        return super().sendto(*arguments)


def test_a_network_that_is_down_ends_no_thread(pair: Pair) -> None:
    judge, reporter, _ = pair
    for thread in (judge, reporter):
        down = Unreachable(fileno=thread._link.detach())
        thread._link = down
    judge.set_timeout(9.0)
    reporter._beat()
    time.sleep(0.7)
    assert judge.is_alive()
    assert reporter.is_alive()


def test_a_host_without_an_address_is_not_reached_and_the_thread_ends_well() -> None:
    reporter = _Reporter(link(), TOKEN, 1, HOSTS, Whereabouts())
    assert not reporter.reach("no-such-host.invalid", 9)
    reporter.stop()


def test_the_name_of_rank_0s_host_is_looked_up_once(pair: Pair) -> None:
    _, reporter, _ = pair
    assert reporter._root[0] == "127.0.0.1", "not localhost"


@pytest.mark.parametrize("seconds", [1e-9, 1e300, float("inf")])
def test_any_timeout_can_be_waited_for(seconds: float) -> None:
    judge = _Judge(link(), TOKEN, HOSTS, Whereabouts())
    judge.set_timeout(seconds)
    time.sleep(0.05)
    assert judge.is_alive()
    judge.stop()
