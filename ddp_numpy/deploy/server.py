"""A server of the drawing page. What it hands out lies in memory: no request reaches the file system."""

import contextlib
import hashlib
import mimetypes
import socket
from collections.abc import Callable
from pathlib import PurePosixPath

import uvicorn
from fastapi import FastAPI, Request, Response

from ddp_numpy.base.errors import InputError

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


def make_app(files: dict[str, bytes]) -> FastAPI:
    """The application that answers with these files by name, and with index.html at the root."""
    app = FastAPI(title="ddp_numpy", docs_url=None, redoc_url=None)
    tags = {name: f'"{hashlib.sha256(data).hexdigest()[:32]}"' for name, data in files.items()}

    @app.api_route("/{name:path}", methods=["GET", "HEAD"], include_in_schema=False)
    def page(name: str, request: Request) -> Response:
        name = name or "index.html"
        if name not in files:
            return Response("no such page\n", 404, _HEADERS, "text/plain")
        headers = _HEADERS | {"ETag": tags[name]}
        if request.headers.get("If-None-Match") == tags[name]:
            return Response(None, 304, headers)
        return Response(files[name], 200, headers, _type(name))

    return app


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
    shown = f"[{host}]" if ":" in host else host
    with listening:
        started(f"http://{shown}:{listening.getsockname()[1]}/")
        with contextlib.suppress(KeyboardInterrupt):
            uvicorn.Server(uvicorn.Config(app, log_level="warning", server_header=False)).run([listening])
