"""Ends a job in which a rank is dead, stopped or unreachable, and says which rank it is and on which host.

A rank that waits in a sum can't report it, because it waits inside the MPI library. So each rank has a watchdog thread.
Ten times per timeout this thread tells rank 0 by UDP how many sums the rank has begun and how many have ended. Rank 0's
thread judges:

- A rank that sends nothing is stopped or cut off.
- A rank that has begun fewer sums than the others is stuck, if the others wait too long. Example: ranks 0 and 1 have
  begun 8 sums and ended 7, rank 2 has begun 7 and ended 7. Ranks 0 and 1 wait in sum 8, and rank 2 did not arrive.

A rank that gets no answer from rank 0 ends itself, because no other process could end it.
"""

import contextlib
import faulthandler
import os
import secrets
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

_BEAT = struct.Struct("!16sIQQ")  # token, rank, sums begun, sums ended
_ANSWER = struct.Struct("!16s?")  # token, whether the job is to end
_MEET_SECONDS = 3.0  # at the start, a rank tries for this long to reach rank 0
_LAST_SECONDS = 1.0  # a rank that ends the job waits for this long, so that all ranks can print their stacks
_LIFELINE = "DDP_NUMPY_LIFELINE"  # launch.lifeline sets it: `process number:descriptor`
_STATUS = 1  # the exit status of a job that the watchdog ends

Sums = tuple[int, int]
"""How many collective sums a rank has begun, and how many of them have ended."""


class Watchdog:
    """As a context: inside it the ranks of a job are watched. A job of one rank is not watched."""

    def __init__(self, comm: "Communicator", timeout: float, complaint: Callable[[str], None]) -> None:
        """timeout: seconds that a rank may be silent or late; complaint: called on rank 0 with a line that
        names the ranks that can't be watched.

        Collective.
        """
        self._end: _Judge | _Reporter | None = None
        if comm.size == 1:
            return
        hosts = comm.broadcast(comm.gather(socket.gethostname())) or []
        alone = len(set(hosts)) == 1
        link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        link.settimeout(min(timeout / 10, 0.5))
        if comm.rank == 0:
            link.bind(("127.0.0.1" if alone else "", 0))
        port, token = comm.broadcast((link.getsockname()[1], secrets.token_bytes(16)))
        judge = None
        if comm.rank == 0:
            self._end = judge = _Judge(link, token, timeout, hosts)
            reached = True
        else:
            address = ("127.0.0.1" if alone else hosts[0], port)
            self._end = _Reporter(link, token, timeout, comm.rank, hosts, address)
            reached = self._end.reach()
        unreached = comm.broadcast([rank for rank, there in enumerate(comm.gather(reached) or []) if not there])
        if judge is not None:
            judge.begin([rank for rank in range(1, comm.size) if rank not in unreached])
            if unreached:
                complaint(f"{_names(unreached, hosts)} can't reach rank 0 by UDP, and won't be missed when stuck")
        if not reached:
            self._end.stop()
            self._end = None

    def watch(self, sums: Callable[[], Sums]) -> None:
        """From now on, report what `sums` returns."""
        if self._end is not None:
            self._end.sums = sums

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end.stop()


class _Thread(threading.Thread):
    """What rank 0's thread and the other ranks' threads share: a socket, this rank's sums, and how to end."""

    def __init__(self, link: socket.socket, token: bytes, timeout: float, rank: int, hosts: list[str]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.sums: Callable[[], Sums] = lambda: (0, 0)
        self._link, self._token, self._timeout, self._rank, self._hosts = link, token, timeout, rank, hosts
        self._over = threading.Event()
        self._awake_at = time.monotonic()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._link.sendto(b"", self._link.getsockname())  # wakes the thread if it waits for a message
        if self.is_alive():
            self.join()
        self._link.close()

    def _slept(self) -> bool:
        """Whether this process was itself stopped for a while. It then can't know what the others did in that time."""
        before, self._awake_at = self._awake_at, time.monotonic()
        return self._awake_at - before > self._timeout / 2

    def _end_job(self, error: str | None) -> None:
        """Print the stacks of this rank and the error, and end this process. mpirun then ends all other ranks."""
        with tempfile.TemporaryFile("w+") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            stacks = file.read()
        text = f"rank {self._rank} on {self._hosts[self._rank]} stands here:\n{stacks}"
        print(text + (f"error: {error}\n" if error else ""), end="", file=sys.stderr, flush=True)
        if error:
            _tell_launcher()
        time.sleep(_LAST_SECONDS)
        os._exit(_STATUS)


def _tell_launcher() -> None:
    """Tell the launcher, if there is one, that the job is to end.

    The launcher then makes sure that mpirun ends: an mpirun that has lost a host would wait for that host without end.
    """
    process, _, descriptor = os.environ.get(_LIFELINE, "").partition(":")
    if process == str(os.getpid()):  # otherwise a parent process is the rank, and the descriptor is not ours
        with contextlib.suppress(OSError):
            os.write(int(descriptor), b"!")  # in launch.lifeline this byte means: "I am ending the job"


class _Judge(_Thread):
    """Rank 0's thread. It answers all other ranks. After `begin` it also decides whether the job is to end."""

    def __init__(self, link: socket.socket, token: bytes, timeout: float, hosts: list[str]) -> None:
        super().__init__(link, token, timeout, 0, hosts)
        self._heard: dict[int, float] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._all_sums: dict[int, Sums] = {}
        self._moved: tuple[float, dict[int, Sums]] = time.monotonic(), {}
        self.start()

    def begin(self, ranks: list[int]) -> None:
        """From now on, expect messages from these ranks."""
        # A new dictionary, because the thread may be iterating over the old one.
        self._heard = dict.fromkeys(ranks, time.monotonic())

    def run(self) -> None:
        while not self._over.is_set():
            self._receive()
            now = time.monotonic()
            if self._slept():
                self._heard.update(dict.fromkeys(self._heard, now))
                self._moved = now, {}
            if error := self._judge(now):
                for address in self._addresses.values():
                    self._link.sendto(_ANSWER.pack(self._token, True), address)
                self._end_job(error)

    def _receive(self) -> None:
        try:
            data, address = self._link.recvfrom(_BEAT.size + 1)
            token, rank, *sums = _BEAT.unpack(data)
        except (OSError, struct.error):  # no message came, or one that is not from our ranks
            return
        if not secrets.compare_digest(token, self._token):
            return
        self._link.sendto(_ANSWER.pack(self._token, False), address)
        if rank in self._heard:
            self._heard[rank], self._addresses[rank], self._all_sums[rank] = time.monotonic(), address, tuple(sums)

    def _judge(self, now: float) -> str | None:
        """The reason to end the job; None if all is well."""
        self._all_sums[0] = self.sums()
        if self._all_sums != self._moved[1]:
            self._moved = now, self._all_sums.copy()
        latest = max(begun for begun, _ in self._all_sums.values())
        late = [rank for rank, (begun, _) in sorted(self._all_sums.items()) if begun < latest]
        if any(now - heard > self._timeout for heard in self._heard.values()):
            # Ranks that were lost together sent their last messages up to a tenth of the timeout apart. So once one
            # rank is silent for too long, all ranks that are silent for nearly as long are named with it.
            silent = [rank for rank, heard in self._heard.items() if now - heard > self._timeout * 0.85]
            return (
                f"{_names(silent, self._hosts)} gave no sign of life for {self._timeout:g} s: stopped, out of memory, "
                "or cut off from the network"
            )
        waiting = any(begun > ended for begun, ended in self._all_sums.values())
        if not waiting or now - self._moved[0] <= self._timeout:
            return None
        if late:
            return f"{_names(late, self._hosts)} did not arrive at step {latest} of this start in {self._timeout:g} s"
        return f"all ranks arrived at step {latest} of this start, but its sum had no end in {self._timeout:g} s"


class _Reporter(_Thread):
    """The thread of any other rank. It tells rank 0 how many sums the rank has begun and ended."""

    def __init__(
        self, link: socket.socket, token: bytes, timeout: float, rank: int, hosts: list[str], root: tuple[str, int]
    ) -> None:
        super().__init__(link, token, timeout, rank, hosts)
        self._root = root

    def reach(self) -> bool:
        """Returns whether rank 0 answers. If it does, the thread is started."""
        end = time.monotonic() + _MEET_SECONDS
        while time.monotonic() < end:
            if self._tell() is not None:
                self._awake_at = time.monotonic()
                self.start()
                return True
            self._over.wait(0.05)
        return False

    def run(self) -> None:
        heard = time.monotonic()
        while not self._over.wait(self._timeout / 10):
            ends = self._tell()
            slept = self._slept()
            now = time.monotonic()
            if slept or ends is not None:
                heard = now
            if ends:
                self._end_job(None)
            elif now - heard > self._timeout:
                # The first rank that ends makes mpirun end the others, so that not every rank prints this error.
                time.sleep(min(0.1 * self._rank, _LAST_SECONDS))
                self._end_job(f"{_names([0], self._hosts)} gave no sign of life for {self._timeout:g} s")

    def _tell(self) -> bool | None:
        """Send this rank's sums to rank 0. Returns whether the job is to end; None if rank 0 does not answer."""
        try:
            self._link.sendto(_BEAT.pack(self._token, self._rank, *self.sums()), self._root)
            token, ends = _ANSWER.unpack(self._link.recv(_ANSWER.size + 1))
        except (OSError, struct.error):
            return None
        return ends if secrets.compare_digest(token, self._token) else None


def _names(ranks: list[int], hosts: list[str]) -> str:
    """ "rank 1 on a", "ranks 1 on a, 3 on b"."""
    return ("ranks " if len(ranks) > 1 else "rank ") + ", ".join(f"{rank} on {hosts[rank]}" for rank in ranks)
