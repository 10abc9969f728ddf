"""A connection from each rank to the launcher, which tells the launcher how the rank ends.

The connection closes when the rank dies, so the launcher knows which rank died first. mpirun tells at best the process
number of that rank. Here is the launcher's end of the connections; launch.rank has the ranks' ends.

Before a rank ends the job, it can send one byte on the connection to say so. The launcher then makes sure that mpirun
ends: an mpirun that has lost a host waits for that host without end.
"""

import contextlib
import fcntl
import functools
import secrets
import selectors
import socket
import struct
import threading
from collections.abc import Callable
from typing import NamedTuple

from launch.rank import ABORTING, DONE, ENDING, FAILED, LAUNCHER

_SIOCGIFADDR = 0x8915  # Linux's request for the address of a network interface
_LONGEST = 1024  # a rank may send this many bytes in all
_LATE_SECONDS = 1.0  # after mpirun has ended, the news that a rank died before it may take this long to arrive
_GRACE_SECONDS = 3.0  # mpirun has this long to see for itself that its ranks have ended


class Rank(NamedTuple):
    """A rank of the job, by the number and the host that the rank has sent."""

    number: str
    host: str


class Lifelines:
    """The launcher's ends of all these connections, as a context."""

    def __init__(self, on_this_host: bool = False) -> None:
        """on_this_host: whether all ranks are on this host, so that no other host need reach the launcher."""
        self._token = secrets.token_hex(16)
        self._addresses = ["127.0.0.1"] if on_this_host else _addresses()
        self._listener = socket.create_server(("127.0.0.1" if on_this_host else "", 0), backlog=1024)
        self._over, self._is_over = socket.socketpair()
        self._first: Rank | None = None
        self._some_died = threading.Event()
        self._act: Callable[[], None] = lambda: None
        self._late = threading.Timer(_GRACE_SECONDS, self._end)
        self._late.daemon = True
        self._thread = threading.Thread(target=self._listen, name="lifelines", daemon=True)
        self.ending = threading.Event()
        """Set when a rank has said that it is ending the job, or when the launcher ends it because a rank failed."""

    @property
    def env(self) -> dict[str, str]:
        """The environment variables by which the ranks find this launcher."""
        return {LAUNCHER: f"{','.join(self._addresses)}:{self._listener.getsockname()[1]}:{self._token}"}

    def when_ending(self, act: Callable[[], None]) -> None:
        """Call `act`, in a thread, _GRACE_SECONDS after a rank has said that it ends the job or that its module failed.

        mpirun has usually ended by then.
        """
        self._act = act

    def first_dead(self) -> Rank | None:
        """The rank that died first, once the job is over.

        None if no rank died that had reached the launcher, or if a rank had ended all of them on purpose before.
        """
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
            # On Linux this is epoll. epoll reports closed connections in the order in which they closed, even if this
            # thread looks only after several of them have closed.
            ready = stack.enter_context(selectors.DefaultSelector())

            def accept() -> bool:
                try:
                    connection, _ = self._listener.accept()
                except OSError:  # no descriptor is left: the launcher can't know further ranks
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
        """Receive what a rank sends. said: all that it has sent so far. Returns whether the rank may send more."""
        try:
            data = connection.recv(_LONGEST)
        except OSError:  # the network has closed the connection, not the rank
            return False
        said += data
        hello, whole, words = said.partition(b"\n")
        token, *rank = hello.decode("ascii", errors="ignore").split(" ")
        if len(said) > _LONGEST or (whole and not (secrets.compare_digest(token, self._token) and len(rank) == 2)):
            return False
        if whole and not self._some_died.is_set():
            if ABORTING in words:
                self._some_died.set()  # on purpose, and so will the others
            elif not data and DONE not in words:
                self._first = Rank(*rank)
                self._some_died.set()
        if ENDING in words:
            self.ending.set()
        if (ENDING in words or FAILED in words) and self._late.ident is None:
            self._late.start()
        return bool(data)

    def _end(self) -> None:
        self.ending.set()
        self._act()


def _addresses() -> list[str]:
    """All IPv4 addresses of this host. Only the other hosts can find out which of them they can reach."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # this interface has no IPv4 address
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found
