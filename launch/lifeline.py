"""A connection of each rank to the launcher: it ends when the rank dies, who can say on it that it is ending the job.

mpirun tells at best a process number of the rank that died first, and waits without end for a host that it has lost.
"""

import contextlib
import fcntl
import functools
import os
import secrets
import select
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

_LAUNCHER = "DDP_NUMPY_LAUNCHER"  # tells the ranks `address,address…:port:token`
_LIFELINE = "DDP_NUMPY_LIFELINE"  # tells that process's modules `process:descriptor`, where they can say _ENDING
_ENDING, _DONE = b"!", b"."  # a rank says that it is ending the job; that its module is done
_SIOCGIFADDR = 0x8915  # Linux: the address of an interface
_REACH_SECONDS = 1.0  # for a rank to reach the launcher
_LONGEST = 1024  # bytes that a rank may say
_LATE_SECONDS = 1.0  # from the end of mpirun to the news that a rank had ended before
_GRACE_SECONDS = 3.0  # for mpirun to see for itself that its ranks have ended


class Rank(NamedTuple):
    """One of the job, as it names itself."""

    number: str
    host: str


class Lifelines:
    """The launcher's ends of all, as a context."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self._listener = socket.create_server(("", 0), backlog=1024)
        self._over, self._is_over = socket.socketpair()
        self._first: Rank | None = None
        self._some_died = threading.Event()
        self._act: Callable[[], None] = lambda: None
        self._late = threading.Timer(_GRACE_SECONDS, lambda: self._act())
        self._late.daemon = True
        self._thread = threading.Thread(target=self._listen, name="lifelines", daemon=True)
        self.ending = threading.Event()
        """Set when a rank has said that it ends the job."""

    @property
    def env(self) -> dict[str, str]:
        """What the ranks' environment needs."""
        return {_LAUNCHER: f"{','.join(_addresses())}:{self._listener.getsockname()[1]}:{self._token}"}

    def when_ending(self, act: Callable[[], None]) -> None:
        """Do this, in a thread, a moment after a rank has said that it ends the job."""
        self._act = act

    def first_dead(self) -> Rank | None:
        """The rank that died before all others, of a job that is over. None if it could not reach the launcher."""
        self._some_died.wait(_LATE_SECONDS)
        return self._first

    def __enter__(self) -> "Lifelines":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.close()
        self._thread.join()
        self._late.cancel()
        self._is_over.close()
        self._listener.close()

    def _listen(self) -> None:
        with contextlib.ExitStack() as stack:
            # Linux's epoll, which is what this is there, gives ends in their order, also to one who looks late.
            ready = stack.enter_context(selectors.DefaultSelector())

            def accept() -> bool:
                try:
                    connection, _ = self._listener.accept()
                except OSError:  # no descriptor is left: of further ranks nothing will be known
                    return False
                hear = functools.partial(self._hear, stack.enter_context(connection), bytearray())
                ready.register(connection, selectors.EVENT_READ, hear)
                return True

            ready.register(self._is_over, selectors.EVENT_READ)
            ready.register(self._listener, selectors.EVENT_READ, accept)
            while True:
                for key, _ in ready.select():
                    if key.fileobj is self._is_over:
                        return
                    if not key.data():
                        ready.unregister(key.fileobj)

    def _hear(self, connection: socket.socket, said: bytearray) -> bool:
        """Take what a rank says, after what it has said. Returns whether there may be more."""
        try:
            data = connection.recv(_LONGEST)
        except OSError:  # the network has ended it, not the rank
            return False
        said += data
        hello, whole, words = said.partition(b"\n")
        token, *rank = hello.decode("ascii", errors="ignore").split(" ")
        if len(said) > _LONGEST or (whole and not (secrets.compare_digest(token, self._token) and len(rank) == 2)):
            return False
        if whole and not data and _DONE not in words and self._first is None:
            self._first = Rank(*rank)
            self._some_died.set()
        if _ENDING in words and not self.ending.is_set():
            self.ending.set()
            self._late.start()
        return bool(data)


@contextlib.contextmanager
def held(rank: str) -> Iterator[None]:
    """As a context: this rank has a lifeline, if it can reach a launcher. A rank that has left it has not died."""
    # Taken out, as what a rank starts is not that rank.
    addresses, port, token = os.environ.pop(_LAUNCHER, "::").split(":")
    connection = _reach(addresses.split(","), int(port)) if port else None
    if connection is None:
        yield
        return
    with connection:
        _say(connection, f"{token} {rank} {socket.gethostname()}\n".encode())
        os.environ[_LIFELINE] = f"{os.getpid()}:{connection.fileno()}"
        try:
            yield
        except Exception:
            # MPICH's mpirun lets the others wait without end for one that fails before it has joined them.
            _say(connection, _ENDING)
            raise
        finally:
            del os.environ[_LIFELINE]
            _say(connection, _DONE)


def _say(connection: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # then the launcher is gone
        connection.sendall(what)


def _reach(addresses: list[str], port: int) -> socket.socket | None:
    """A connection to whichever of the addresses answers first, if one does."""
    with contextlib.ExitStack() as stack:
        attempts = [stack.enter_context(socket.socket()) for _ in addresses]
        for attempt, address in zip(attempts, addresses, strict=True):
            attempt.setblocking(False)
            attempt.connect_ex((address, port))
        deadline = time.monotonic() + _REACH_SECONDS
        while attempts and (seconds := deadline - time.monotonic()) > 0:
            for attempt in select.select([], attempts, [], seconds)[1]:
                with contextlib.suppress(OSError):  # refused
                    attempt.getpeername()
                    attempt.setblocking(True)
                    # Linux closes the highest descriptor of a dead process first: before the one that mpirun hears of.
                    above = 1 + max(map(int, os.listdir("/dev/fd")))
                    return socket.socket(fileno=fcntl.fcntl(attempt, fcntl.F_DUPFD_CLOEXEC, above))
                attempts.remove(attempt)
    return None


def _addresses() -> list[str]:
    """This host's IPv4 addresses: which of them other hosts can reach, only they can tell."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without one
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found
