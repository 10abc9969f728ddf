"""Ends a job that has a dead, stopped or unreachable rank, and says which one it is and where.

A rank that waits in a sum can't say so: it waits inside the MPI library. So each rank has a thread that tells rank 0
by UDP, ten times in a timeout, how many sums it has begun and ended, and rank 0's thread judges. Who says nothing is
stopped or cut off; who has begun fewer sums than others wait in is stuck. A rank that hears nothing of rank 0 ends
itself, as nobody else could end it.
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
_ANSWER = struct.Struct("!16s?")  # token, whether the job ends
_MEET_SECONDS = 3.0  # for a rank to reach rank 0 at the start
_LAST_SECONDS = 1.0  # for all ranks to say where they stand before they end
_LIFELINE = "DDP_NUMPY_LIFELINE"  # as launch.lifeline sets it
_STATUS = 1  # of a job that is ended here

Sums = tuple[int, int]
"""How many collective sums a rank has begun, and how many of them have ended."""


class Watchdog:
    """As a context, in which the ranks of a job are watched. One rank alone is not."""

    def __init__(self, comm: "Communicator", timeout: float, complaint: Callable[[str], None]) -> None:
        """timeout: seconds that a rank may be silent or late; complaint: told, on rank 0, who can't be watched.

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
        """Tell from now on what this gives."""
        if self._end is not None:
            self._end.sums = sums

    def __enter__(self) -> "Watchdog":
        return self

    def __exit__(self, *_: object) -> None:
        if self._end is not None:
            self._end.stop()


class _Thread(threading.Thread):
    """What both sides have: a socket, this rank's sums, and an end."""

    def __init__(self, link: socket.socket, token: bytes, timeout: float, rank: int, hosts: list[str]) -> None:
        super().__init__(name="watchdog", daemon=True)
        self.sums: Callable[[], Sums] = lambda: (0, 0)
        self._link, self._token, self._timeout, self._rank, self._hosts = link, token, timeout, rank, hosts
        self._over = threading.Event()
        self._awake_at = time.monotonic()

    def stop(self) -> None:
        """End the thread."""
        self._over.set()
        self._link.sendto(b"", self._link.getsockname())  # which it may be waiting for
        if self.is_alive():
            self.join()
        self._link.close()

    def _slept(self) -> bool:
        """Whether this process itself was stopped for a while, and so knows nothing of the others."""
        before, self._awake_at = self._awake_at, time.monotonic()
        return self._awake_at - before > self._timeout / 2

    def _end_job(self, error: str | None) -> None:
        """Say what is wrong and where this rank stands, and end this process; mpirun then ends all others."""
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
    """Let the launcher, if there is one, know that the job ends: an mpirun that has lost a host would wait for it."""
    process, _, descriptor = os.environ.get(_LIFELINE, "").partition(":")
    if process == str(os.getpid()):  # and not of the rank that has started this process
        with contextlib.suppress(OSError):
            os.write(int(descriptor), b"!")  # launch.lifeline's word for it


class _Judge(_Thread):
    """Rank 0's: answers all others, and from `begin` on decides."""

    def __init__(self, link: socket.socket, token: bytes, timeout: float, hosts: list[str]) -> None:
        super().__init__(link, token, timeout, 0, hosts)
        self._heard: dict[int, float] = {}
        self._addresses: dict[int, tuple[str, int]] = {}
        self._all_sums: dict[int, Sums] = {}
        self._moved: tuple[float, dict[int, Sums]] = time.monotonic(), {}
        self.start()

    def begin(self, ranks: list[int]) -> None:
        """Expect to hear of these from now on."""
        self._heard = dict.fromkeys(ranks, time.monotonic())  # a new one, as the thread may be looking through the old

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
        except (OSError, struct.error):  # nothing came, or nothing of ours
            return
        if not secrets.compare_digest(token, self._token):
            return
        self._link.sendto(_ANSWER.pack(self._token, False), address)
        if rank in self._heard:
            self._heard[rank], self._addresses[rank], self._all_sums[rank] = time.monotonic(), address, tuple(sums)

    def _judge(self, now: float) -> str | None:
        """What is wrong, if anything is."""
        self._all_sums[0] = self.sums()
        if self._all_sums != self._moved[1]:
            self._moved = now, self._all_sums.copy()
        latest = max(begun for begun, _ in self._all_sums.values())
        late = [rank for rank, (begun, _) in sorted(self._all_sums.items()) if begun < latest]
        if any(now - heard > self._timeout for heard in self._heard.values()):
            # Who was lost together with that rank may have spoken up to a beat after it, and have been heard late.
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
    """Any other rank's: tells rank 0 how far it is."""

    def __init__(
        self, link: socket.socket, token: bytes, timeout: float, rank: int, hosts: list[str], root: tuple[str, int]
    ) -> None:
        super().__init__(link, token, timeout, rank, hosts)
        self._root = root

    def reach(self) -> bool:
        """Whether rank 0 answers; if so the thread is started."""
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
                time.sleep(min(0.1 * self._rank, _LAST_SECONDS))  # the first to speak ends the others
                self._end_job(f"{_names([0], self._hosts)} gave no sign of life for {self._timeout:g} s")

    def _tell(self) -> bool | None:
        """Tell rank 0 how far this one is. Returns whether the job ends; None if there is no answer."""
        try:
            self._link.sendto(_BEAT.pack(self._token, self._rank, *self.sums()), self._root)
            token, ends = _ANSWER.unpack(self._link.recv(_ANSWER.size + 1))
        except (OSError, struct.error):
            return None
        return ends if secrets.compare_digest(token, self._token) else None


def _names(ranks: list[int], hosts: list[str]) -> str:
    """ "rank 1 on a", "ranks 1 on a, 3 on b"."""
    return f"rank{'s' * (len(ranks) > 1)} " + ", ".join(f"{rank} on {hosts[rank]}" for rank in ranks)
