"""Ends a job in which a rank is dead, stopped, unreachable or gone, and says which rank it is and on which host.

A rank that waits in a collective call can't report it, because it waits inside the MPI library. So each rank has a
watchdog thread. Ten times per timeout this thread tells rank 0 by UDP where its rank is (`Whereabouts`): how many
collective calls it has begun, how many of them have ended, and in which part of its program it is. Rank 0's thread
judges:

- A rank that sends nothing is stopped or cut off.
- A rank that is in training and waits for another, which does not come. Example: ranks 0 and 1 have begun 8 calls and
  ended 7, rank 2 has begun 7 and ended 7. Ranks 0 and 1 wait in call 8, and rank 2 did not come.
- A rank whose program has ended, and another waits for it: it would wait for ever.

A rank that gets no answer from rank 0 ends itself, because no other process could end it.
"""

import contextlib
import faulthandler
import os
import secrets
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ddp_numpy.base.messages import one_line, tell, tell_lines
from ddp_numpy.comm.lifeline import ENDING, tell_launcher
from ddp_numpy.comm.whereabouts import Place, State, Whereabouts

if TYPE_CHECKING:
    from ddp_numpy.comm.communicator import Communicator

DEFAULT_TIMEOUT = 300.0
_BEAT = struct.Struct("!16sIdQQBi")  # token, rank, timeout, and the rank's State
_ANSWER = struct.Struct("!16sdBi")  # token, rank 0's timeout, one of the following, exit status
_HEARD, _ASKS, _ENDS, _ENDS_SHOWING = range(4)  # "I hear you"; "where are you?"; "end the job", also: "show your stack"
_SHORTEST_SECONDS, _LONGEST_SECONDS = 0.001, 60.0  # between two beats
_JUDGE_SECONDS = 0.5  # rank 0 judges at least so often, and asks at most so often
_MEET_SECONDS = 3.0  # at the start, a rank tries for this long to reach rank 0
_LAST_SECONDS = 1.0  # a rank that ends the job waits for this long, so that all ranks can print their stacks
_FORWARD_SECONDS = 0.2  # mpirun may need this long to pass on what a rank has printed before
_STATUS = 1  # the exit status of a job that the watchdog ends
_ADVICE = "if that may take so long, raise the stall timeout"

Address = tuple[str, int]


class Watchdog:
    """Watches the ranks of a job from its making until `leave`."""

    def __init__(self, comm: "Communicator", gate: Callable[[], None]) -> None:
        """gate: a barrier of all ranks that is apart from the communicator's other calls.

        Collective. Warns of ranks that can't be watched, as they do not reach rank 0.
        """
        self._gate, self._here = gate, comm.here
        hosts = comm.broadcast(comm.gather(socket.gethostname())) or []
        alone = len(set(hosts)) == 1
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.bind(("127.0.0.1" if alone else "", 0))
        port, token = comm.broadcast((link.getsockname()[1], secrets.token_bytes(16)))
        judge = _Judge(link, token, hosts, comm.here, comm.abort) if comm.rank == 0 else None
        self._thread: _Thread | None = judge
        if judge is None:
            reporter = _Reporter(link, token, comm.rank, hosts, comm.here, comm.abort)
            if reporter.reach("127.0.0.1" if alone else hosts[0], port):
                self._thread = reporter
            else:
                reporter.stop()
        reached = comm.broadcast(comm.gather(self._thread is not None)) or []
        if judge is not None:
            judge.begin([rank for rank in range(1, comm.size) if reached[rank]])
            if unreached := [rank for rank, there in enumerate(reached) if not there]:
                tell(f"warning: {_names(unreached, hosts)} can't reach rank 0 by UDP, and won't be missed when stuck")

    def set_timeout(self, seconds: float) -> None:
        """Set how long a rank may be silent, or keep the others waiting. What rank 0 sets counts for all ranks."""
        if self._thread is not None:
            self._thread.set_timeout(seconds)

    def leave(self) -> None:
        """Called at the end of a rank's program: wait for the other ranks, and end the watch. Collective.

        Until all ranks are here they are watched: rank 0 may take long to write its last file.
        """
        self._here.place = Place.LEFT
        if self._thread is not None:
            self._thread.wake()
        self._gate()
        if self._thread is not None:
            self._thread.stop()


class _Thread(threading.Thread):
    """What rank 0's thread and the other ranks' threads share: a socket, and how to end."""

    def __init__(
        self,
        link: socket.socket,
        token: bytes,
        rank: int,
        hosts: list[str],
        here: Whereabouts,
        abort: Callable[[int], object] = os._exit,
    ) -> None:
        """abort: ends all ranks with an exit status."""
        super().__init__(name="watchdog", daemon=True)
        self._link, self._token, self._rank, self._hosts, self._here = link, token, rank, hosts, here
        self._abort = abort
        self._timeout = DEFAULT_TIMEOUT
        self._over = False
        self._awake_at = time.monotonic()

    def set_timeout(self, seconds: float) -> None:
        """Go by another timeout from now on."""
        self._timeout = seconds
        self.wake()

    def wake(self) -> None:
        """Let the thread look at once at what has changed."""
        self._send(b"", ("127.0.0.1", self._link.getsockname()[1]))

    def stop(self) -> None:
        """End the thread."""
        self._over = True
        self.wake()
        if self.is_alive():
            self.join(_LAST_SECONDS)
        self._link.close()

    def _send(self, message: bytes, address: Address) -> None:
        with contextlib.suppress(OSError):  # the network is down for now, or for good: silence is judged elsewhere
            self._link.sendto(message, address)

    def _receive(self, layout: struct.Struct, seconds: float) -> tuple[list[Any], Address] | None:
        """What comes within so many seconds, without its token; None if nothing came, or nothing from our ranks."""
        try:
            self._link.settimeout(max(seconds, _SHORTEST_SECONDS))
            data, address = self._link.recvfrom(layout.size + 1)
            token, *values = layout.unpack(data)
        except (OSError, struct.error):
            return None
        return (values, address) if secrets.compare_digest(token, self._token) else None

    def _beat_seconds(self) -> float:
        """From one beat to the next."""
        return min(max(self._timeout / 10, _SHORTEST_SECONDS), _LONGEST_SECONDS)

    def _slept(self) -> bool:
        """Whether this process was itself stopped for a while. It then can't know what the others did in that time."""
        before, self._awake_at = self._awake_at, time.monotonic()
        return self._awake_at - before > self._timeout / 2

    def _end_job(self, error: str | None, status: int = _STATUS, stacks: bool = True) -> None:
        """Print the stacks of this rank, and end this process.

        error: if this rank is the one that ends the job. It is printed, and all ranks are ended with the status: mpirun
        takes it from MPI_Abort. If ranks just ended, mpirun would kill those that are left, and might report that.
        """
        text = self._stacks() if stacks else ""
        time.sleep(_FORWARD_SECONDS)
        tell_lines(text + (f"error: {one_line(error)}\n" if error else ""))
        if error and status == _STATUS:  # else no host is lost, and the launcher is to see the status
            tell_launcher(ENDING)
        time.sleep(_LAST_SECONDS)
        if error:
            late = threading.Timer(_LAST_SECONDS, os._exit, (status,))  # if MPI has lost a host, or hangs
            late.daemon = True
            late.start()
            self._abort(status)
        time.sleep(2 * _LAST_SECONDS)  # until the abort of the rank that ends the job has reached this one
        os._exit(status)

    def _stacks(self) -> str:
        try:
            with tempfile.TemporaryFile("w+") as file:
                faulthandler.dump_traceback(file, all_threads=True)
                file.seek(0)
                return f"rank {self._rank} on {self._hosts[self._rank]} stands here:\n{file.read()}"
        except OSError:  # a full disk
            return ""


class _Judge(_Thread):
    """Rank 0's thread. It answers all other ranks. After `begin` it also decides whether the job is to end."""

    def __init__(
        self,
        link: socket.socket,
        token: bytes,
        hosts: list[str],
        here: Whereabouts,
        abort: Callable[[int], object] = os._exit,
    ) -> None:
        super().__init__(link, token, 0, hosts, here, abort)
        self._heard: dict[int, float] = {}
        self._addresses: dict[int, Address] = {}
        self._timeouts: dict[int, float] = {}
        """Those by which the ranks beat."""
        self._states: dict[int, State] = {}
        self._moved: tuple[float, dict[int, State]] = time.monotonic(), {}
        self.start()

    def begin(self, ranks: list[int]) -> None:
        """From now on, expect messages from these ranks."""
        # A new dictionary, because the thread may be iterating over the old one.
        self._heard = dict.fromkeys(ranks, time.monotonic())

    def set_timeout(self, seconds: float) -> None:
        super().set_timeout(seconds)
        self._answer(*list(self._addresses), words=_ASKS)  # rank 0 may be stopped before its thread gets to it

    def run(self) -> None:
        asked = time.monotonic()
        while not self._over:
            self._hear(min(self._beat_seconds(), _JUDGE_SECONDS))
            now = time.monotonic()
            if self._slept():
                self._heard.update(dict.fromkeys(self._heard, now))
                self._moved = now, {}
            if ending := self._judge(now):
                error, status, stacks = ending
                self._answer(*self._addresses, words=_ENDS_SHOWING if stacks else _ENDS, status=status)
                self._end_job(error, status, stacks)
            if now - asked > _JUDGE_SECONDS and (ranks := self._to_ask()):
                asked = now
                self._answer(*ranks, words=_ASKS)

    def _hear(self, seconds: float) -> None:
        received = self._receive(_BEAT, seconds)
        if received is None:
            return
        (rank, timeout, *state), address = received
        if rank in self._heard:
            self._heard[rank] = time.monotonic()
            self._states[rank] = State(*state)
        self._addresses[rank], self._timeouts[rank] = address, timeout
        self._answer(rank)

    def _answer(self, *ranks: int, words: int = _HEARD, status: int = 0) -> None:
        for rank in ranks:
            self._send(_ANSWER.pack(self._token, self._timeout, words, status), self._addresses[rank])

    def _to_ask(self) -> list[int]:
        """The ranks whose next beat is not to be waited for."""
        left = sum(state.place == Place.LEFT for state in self._states.values())
        some_left = 0 < left < len(self._states)
        return [rank for rank, timeout in self._timeouts.items() if some_left or timeout != self._timeout]

    def _judge(self, now: float) -> tuple[str, int, bool] | None:
        """Why the job is to end, with which status, and whether stacks help to see why; None if all is well."""
        self._states[0] = self._here.state()
        if self._states != self._moved[1]:
            self._moved = now, self._states.copy()
        states = dict(sorted(self._states.items()))
        latest = max(state.begun for state in states.values())
        late = [rank for rank, state in states.items() if state.begun < latest]
        waiting = [rank for rank, state in states.items() if state.begun == latest > state.ended]
        left = [rank for rank, state in states.items() if state.place == Place.LEFT]
        if len(left) == len(self._hosts):
            return None
        if waiting and (gone := [rank for rank in late if rank in left]):
            status = next((states[rank].exit_status for rank in gone if states[rank].exit_status), 0)
            how = f" with status {status}" if status else ""
            advice = "" if status else ": do all ranks make the same calls?"
            error = f"{_names(gone, self._hosts)} left{how}, and {_names(waiting, self._hosts)} still waited{advice}"
            return error, status or _STATUS, not status
        silence = self._silence(now)
        if silence and max(silence.values()) > 1:
            # Ranks that were lost together sent their last messages up to a tenth of the timeout apart. So once one
            # rank is silent for too long, all ranks that are silent for nearly as long are named with it.
            silent = [rank for rank, part in silence.items() if part > 0.85]
            error = f"{_names(silent, self._hosts)} gave no sign of life for {self._timeout:g} s: stopped, out of "
            return f"{error}memory, or cut off from the network", _STATUS, True
        if silence and max(silence.values()) > 0.5:
            return None  # if it stays silent, that is what is wrong with it
        hurried = any(states[rank].place == Place.TRAINING for rank in waiting)
        excused = any(states[rank].place == Place.UNHURRIED for rank in late)
        if not hurried or excused or now - self._moved[0] <= self._timeout:
            return None
        if late:
            error = (
                f"{_names(late, self._hosts)} kept the others waiting for {self._timeout:g} s in training; {_ADVICE}"
            )
        else:
            error = f"all ranks wait for each other for {self._timeout:g} s: do all make the same calls?"
        return error, _STATUS, True

    def _silence(self, now: float) -> dict[int, float]:
        """For how long each rank has been silent, as a part of the timeout."""
        # A rank that has not heard yet of a new timeout beats by its own.
        limits = {rank: max(self._timeout, self._timeouts.get(rank, 0.0)) for rank in self._heard}
        return {rank: (now - heard) / limits[rank] for rank, heard in self._heard.items()}


class _Reporter(_Thread):
    """The thread of any other rank. It tells rank 0 where the rank is."""

    def reach(self, host: str, port: int) -> bool:
        """Returns whether rank 0 answers. If it does, the thread is started."""
        try:
            self._root = socket.gethostbyname(host), port  # once: a name server may fail while the job runs
        except OSError:
            return False
        end = time.monotonic() + _MEET_SECONDS
        while time.monotonic() < end:
            self._beat()
            if self._receive(_ANSWER, 0.2) is not None:
                self._awake_at = time.monotonic()
                self.start()
                return True
        return False

    def run(self) -> None:
        heard, due, told = time.monotonic(), 0.0, None
        while not self._over:
            now, news = time.monotonic(), (self._timeout, self._here.place)
            if now >= due or news != told:
                self._beat()
                due, told = now + self._beat_seconds(), news
            received = self._receive(_ANSWER, due - now)
            now = time.monotonic()
            if self._slept() or received is not None:
                heard = now
            if received is not None:
                (self._timeout, words, status), _ = received
                if words == _ASKS:
                    due = now
                elif words != _HEARD:
                    self._end_job(None, status, words == _ENDS_SHOWING)
            elif now - heard > self._timeout:
                # The first rank that ends makes mpirun end the others, so that not every rank prints this error.
                time.sleep(min(0.1 * self._rank, _LAST_SECONDS))
                self._end_job(f"{_names([0], self._hosts)} gave no sign of life for {self._timeout:g} s")

    def _beat(self) -> None:
        self._send(_BEAT.pack(self._token, self._rank, self._timeout, *self._here.state()), self._root)


def _names(ranks: list[int], hosts: list[str]) -> str:
    """ "rank 1 on a", "ranks 1 on a, 3 on b"."""
    return ("ranks " if len(ranks) > 1 else "rank ") + ", ".join(f"{rank} on {hosts[rank]}" for rank in ranks)
