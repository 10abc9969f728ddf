"""The program that each rank runs: it runs a module as `python -m` does, or a script as `python` does.

It also marks the program's errors, keeps its output, and lets the launcher see how the rank ends.

    python -P rank.py RANK_VARIABLE LOG_DIR MODULE [ARGS…]         (LOG_DIR may be empty)
    python -P rank.py RANK_VARIABLE LOG_DIR SCRIPT.py [ARGS…]

Lines on stderr get the rank and the host in front. Only `error: …` does not: such a line speaks for the whole job.

A rank starts this file by its path, and this file imports the standard library alone. So a launch.py or a socket.py in
the working folder can't take the place of a module that this file needs.
"""

import contextlib
import errno
import fcntl
import io
import os
import runpy
import select
import socket
import stat
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any, TextIO

LAUNCHER = "DDP_NUMPY_LAUNCHER"  # tells the ranks where the launcher is: `address,address…:port:token`
_LIFELINE = "DDP_NUMPY_LIFELINE"  # tells a rank's modules where to write ENDING: `process number:descriptor`
# A rank sends: "I am ending the job"; "I end all ranks by MPI_Abort"; "my program failed"; "it is done".
ENDING, ABORTING, FAILED, DONE = b"!", b"x", b"?", b"."
SCRIPT = ".py"  # a program with this ending is a script, any other is a module
_REACH_SECONDS = 1.0  # a rank tries for this long to reach the launcher


class _Unreadable(Exception):  # noqa: N818
    """The script can't be read on this host."""


class Log:
    """A rank's log file. If it can't be written, a line says so, once, and the rank goes on without it."""

    def __init__(self, folder: str, rank: str, complaint: Callable[[str], object]) -> None:
        """complaint: called with the line."""
        self._path, self._complaint = os.path.join(folder, f"rank-{rank}.log"), complaint
        self._descriptor: int | None = None
        with self._complaining():
            os.makedirs(folder, exist_ok=True)
            self._descriptor = _open_own(self._path)

    def write(self, text: str) -> None:
        """Write to the file, if that is possible."""
        data = text.encode(errors="backslashreplace")
        with self._complaining():
            while data and self._descriptor is not None:
                data = data[os.write(self._descriptor, data) :]

    @contextlib.contextmanager
    def _complaining(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._descriptor = None
            self._complaint(f"warning: {self._path!a}: {error.strerror}; no output of this rank is kept from here on\n")


class Stream:
    """A text stream that marks its lines and keeps a copy in a log. Each whole line is written in one piece.

    Whatever can't be written is lost. It never ends the program.
    """

    def __init__(self, stream: TextIO | None, prefix: str = "") -> None:
        """stream: None is a stream that was closed before Python started."""
        self._stream = stream or open(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)  # noqa: SIM115
        if isinstance(self._stream, io.TextIOWrapper):
            self._stream.reconfigure(errors="backslashreplace")
        self._prefix, self._line = prefix, ""
        self.log: Log | None = None

    def write(self, text: str) -> int:
        """Take text. Whole lines are written now; the rest waits for its line end or for a flush."""
        if self.log is not None:
            self.log.write(text)
        if not self._prefix:
            self._pass_on(text)
            return len(text)
        *lines, self._line = (self._line + text).split("\n")
        if lines:
            self._pass_on("".join(f"{self._marked(line)}\n" for line in lines))
        return len(text)

    def flush(self) -> None:
        """Write all that is waiting, even half a line."""
        if self._line:
            self._pass_on(self._marked(self._line))
            self._line = ""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _pass_on(self, text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # a full disk or a broken pipe; a closed stream
            self._stream.write(text)

    def _marked(self, line: str) -> str:
        return line if not line or line.startswith("error: ") else self._prefix + line


def main() -> None:
    """Set up the streams, then run the program in this process."""
    rank_variable, log_dir, program, *arguments = sys.argv[1:]
    rank = os.environ.get(rank_variable, "")
    if not rank.isdecimal():
        rank = "?"
    out, err = Stream(sys.stdout), Stream(sys.stderr, f"rank {rank} on {socket.gethostname()}: ")
    if log_dir:
        out.log = err.log = Log(log_dir, rank, err.write)
    streams: Any = (out, err)
    sys.stdout, sys.stderr = streams
    sys.argv = [program, *arguments]
    try:
        with held(rank):
            run(program)
    except _Unreadable as error:
        err.write(f"error: rank {rank} on {socket.gethostname()}: {error}\n")
        sys.exit(2)


def run(program: str) -> None:
    """Run a module as `python -m MODULE` does, or a script as `python SCRIPT.py` does."""
    if not program.endswith(SCRIPT):
        with contextlib.suppress(FileNotFoundError):  # the working folder was removed
            sys.path.insert(0, os.getcwd())
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    path = os.path.abspath(program)
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        raise _Unreadable(f"{program}: {error.strerror}") from None
    sys.path.insert(0, os.path.dirname(os.path.realpath(path)))
    # runpy.run_path would not do: it sets sys.argv[0] to the absolute path, or __file__ to a relative one.
    module = types.ModuleType("__main__")
    module.__file__ = path
    sys.modules["__main__"] = module
    exec(compile(source, path, "exec", dont_inherit=True), module.__dict__)


@contextlib.contextmanager
def held(rank: str) -> Iterator[None]:
    """As a context: this rank is connected to the launcher, if it can reach one.

    A rank that leaves the context tells the launcher. The launcher then knows that this rank has not died.
    """
    # Removed from the environment, because a process that the rank starts is not the rank.
    addresses, _, rest = os.environ.pop(LAUNCHER, "").partition(":")
    port, _, token = rest.partition(":")
    connection = _reach(addresses.split(","), int(port)) if port.isdecimal() else None
    if connection is None:
        yield
        return
    with connection:
        _say(connection, f"{token} {rank} {socket.gethostname()}\n".encode())
        os.environ[_LIFELINE] = f"{os.getpid()}:{connection.fileno()}"
        try:
            yield
        except Exception:
            # If this rank failed before it had met the others, MPICH's mpirun would let them wait without end.
            _say(connection, FAILED)
            raise
        finally:
            os.environ.pop(_LIFELINE, None)
            _say(connection, DONE)


def _say(connection: socket.socket, what: bytes) -> None:
    with contextlib.suppress(OSError):  # an error means that the launcher is gone
        connection.sendall(what)


def _reach(addresses: list[str], port: int) -> socket.socket | None:
    """A connection to the address that answers first. None if no address answers in time."""
    with contextlib.ExitStack() as stack:
        attempts = [stack.enter_context(socket.socket()) for _ in addresses]
        for attempt, address in zip(attempts, addresses, strict=True):
            attempt.setblocking(False)
            attempt.connect_ex((address, port))
        deadline = time.monotonic() + _REACH_SECONDS
        while attempts and (seconds := deadline - time.monotonic()) > 0:
            for attempt in select.select([], attempts, [], seconds)[1]:
                with contextlib.suppress(OSError):  # the address refused the connection
                    attempt.getpeername()
                    attempt.setblocking(True)
                    # When a process dies, Linux closes its highest descriptor first. So the connection gets a higher
                    # descriptor than any that mpirun watches: the launcher hears of the death before mpirun does,
                    # and so before mpirun kills the other ranks.
                    above = 1 + max(map(int, os.listdir("/dev/fd")))
                    return socket.socket(fileno=fcntl.fcntl(attempt, fcntl.F_DUPFD_CLOEXEC, above))
                attempts.remove(attempt)
    return None


def _open_own(path: str) -> int:
    """Open a log for writing. Where it should be, a stranger may have put a link to another file, or a pipe."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


if __name__ == "__main__":
    main()
