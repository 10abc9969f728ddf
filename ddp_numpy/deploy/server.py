"""What servers have in common. The files that they hand out lie in memory: no request reaches the file system."""

import contextlib
import hashlib
import logging
import mimetypes
import socket
import time
import warnings
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ddp_numpy.base.errors import InputError

MOST_BYTES = 2**24
"""Of a request's body."""
_TYPES = {
    ".bin": "application/octet-stream",
    ".mjs": "text/javascript",
    ".onnx": "application/octet-stream",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
"""Of files that mimetypes does not know everywhere."""
_HEADERS = {
    "Cache-Control": "no-cache",  # a browser asks whether its copy is the newest
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; object-src 'none'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
Observe = Callable[[str, int, float], None]


class _Front:
    """Stands before the application: limits bodies, adds headers to answers, and measures how long they take."""

    def __init__(self, app: ASGIApp, observe: Observe) -> None:
        self._app, self._observe = app, observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, received = time.perf_counter(), 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > MOST_BYTES:
                raise HTTPException(413, f"the body has more than {MOST_BYTES:,} bytes")
            return message

        async def measured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                self._observe(scope["path"], message["status"], time.perf_counter() - start)
            await send(message)

        await self._app(scope, limited, measured)


def make_app(observe: Observe = lambda path, status, seconds: None, **options: Any) -> FastAPI:
    """An application without routes, whose answers have strict headers. observe: called with each answer's time.

    options: as FastAPI has them.
    """
    app = FastAPI(title="ddp_numpy", docs_url=None, redoc_url=None, **options)
    app.add_middleware(_Front, observe=observe)
    return app


def add_files(app: FastAPI, files: dict[str, bytes], otherwise: str) -> None:
    """Answer with these files by name, and at the root with index.html; or, if there is none, lead to another path."""
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:32]}"' for name, data in files.items()}

    @app.api_route("/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def page(name: str, request: Request) -> Response:
        if not name and not files:
            return RedirectResponse(otherwise)
        name = name or "index.html"
        if name not in files:
            raise HTTPException(404)
        headers = {"ETag": tags[name]}
        if request.headers.get("If-None-Match") == tags[name]:
            return Response(None, 304, headers)
        return Response(files[name], 200, headers, _type(name))


def _type(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    return _TYPES.get(suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"


def serve(app: FastAPI, host: str, port: int, started: Callable[[str], None]) -> None:
    """Answer requests until the process is interrupted. port: 0 takes a free one. started: called with the address.

    Raises InputError if the address can't be taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(address[:2], family=family)
    except (OSError, UnicodeError) as error:
        why = str(getattr(error, "strerror", None) or error).partition(" (")[0]
        raise InputError(f"--host {host} --port {port}: {why}; choose another one") from None
    logging.getLogger("python_multipart").setLevel(logging.CRITICAL)  # it tells of each damaged form
    warnings.simplefilter("ignore")  # of categories that no row had in training: there is nobody to read them
    shown = f"[{host}]" if ":" in host else host
    with listening:
        started(f"http://{shown}:{listening.getsockname()[1]}/")
        with contextlib.suppress(KeyboardInterrupt):
            config = uvicorn.Config(app, log_level="error", server_header=False, timeout_graceful_shutdown=5)
            server = uvicorn.Server(config)
            app.state.is_ending = lambda: server.should_exit  # for answers that go on without end
            server.run([listening])
