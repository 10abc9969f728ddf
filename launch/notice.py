"""How a job's ranks reach the launcher: by UDP, as an mpirun that has lost a host waits for it without end."""

import contextlib
import fcntl
import secrets
import socket
import struct
import threading
from collections.abc import Callable

VARIABLE = "DDP_NUMPY_LAUNCHER"
"""Tells the ranks `address,address…:port:token`: the token, sent to that port, says that they are ending the job."""

_SIOCGIFADDR = 0x8915  # Linux: the address of an interface
_GRACE_SECONDS = 3.0  # for mpirun to see for itself that its ranks have ended


class Notice:
    """As a context, in which ranks may say that they are ending the job."""

    def __init__(self) -> None:
        self._token = secrets.token_hex(16)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("", 0))
        self._closed = threading.Event()
        self.given = threading.Event()
        self._act: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._listen, name="notice", daemon=True)

    @property
    def env(self) -> dict[str, str]:
        """What the ranks' environment needs."""
        return {VARIABLE: f"{','.join(_addresses())}:{self._socket.getsockname()[1]}:{self._token}"}

    def when_given(self, act: Callable[[], None]) -> None:
        """Do this, in a thread, a moment after ranks have said it."""
        self._act = act

    def __enter__(self) -> "Notice":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._socket.sendto(b"", ("127.0.0.1", self._socket.getsockname()[1]))
        self._thread.join()
        self._socket.close()

    def _listen(self) -> None:
        while not self._closed.is_set():
            said = self._socket.recv(64)
            if secrets.compare_digest(said, self._token.encode()):
                self.given.set()
                if not self._closed.wait(_GRACE_SECONDS):
                    self._act()
                return


def _addresses() -> list[str]:
    """This host's IPv4 addresses: which of them other hosts can reach, only they can tell."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without one
                answer = fcntl.ioctl(any_socket, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                found.append(socket.inet_ntoa(answer[20:24]))
    return found
