"""Real servers of the package, each in a process of its own."""

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_SECONDS = 30  # that an answer may take on a busy machine


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server(NamedTuple):
    process: "subprocess.Popen[str]"
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def ask(self, path: str, body: Any = None, method: str = "", headers: dict[str, str] | None = None) -> Answer:
        """The answer to one request, whose path is sent as it stands."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_SECONDS)
        connection.request(method or ("GET" if body is None else "POST"), path, body, headers or {})
        answer = connection.getresponse()
        found = Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        connection.close()
        return found

    def end(self) -> None:
        """Interrupt the server, which must end without a word."""
        self.process.send_signal(signal.SIGINT)
        _, err = self.process.communicate(timeout=_SECONDS)
        assert (self.process.returncode, err) == (0, ""), err


@contextmanager
def serving(*arguments: str | Path, command: str = "serve") -> Iterator[Server]:
    """A server that was started with these arguments of a command; it ends with the block."""
    started = [sys.executable, "-m", f"ddp_numpy.{command}", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("http://"), line
            server = Server(process, int(line.split("/")[2].rpartition(":")[2]))
            yield server
            if process.poll() is None:
                server.end()
        finally:
            process.kill()
