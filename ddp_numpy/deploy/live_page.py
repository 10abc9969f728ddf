"""The live page of runs: its files, and a stream of news of the runs' folders."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from ddp_numpy.deploy.server import add_files, make_app
from ddp_numpy.runs.watch import RunWatch, Watch

_FILES = Path(__file__).with_name("live")
_SECONDS = 1.0  # between two looks at the folders
_QUIET = 15  # looks without news, after which a word keeps proxies and tunnels from closing the stream


def live_app(watch: Watch) -> FastAPI:
    """The application that shows runs as they go on."""

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(_look(watch))
        yield
        looking.cancel()

    app = make_app(lifespan=living)

    @app.get("/events", include_in_schema=False)
    async def events() -> StreamingResponse:
        return StreamingResponse(_news(watch, app), media_type="text/event-stream")

    add_files(app, {path.name: path.read_bytes() for path in _FILES.iterdir() if path.is_file()}, "")
    return app


async def _look(watch: Watch) -> None:
    while True:
        await run_in_threadpool(watch.update)
        await asyncio.sleep(_SECONDS)


async def _news(watch: Watch, app: FastAPI) -> AsyncIterator[str]:
    """For one page: all there is, and then what is new, as server-sent events, until the server ends."""
    told: dict[Path, tuple[int, int, int]] = {}  # version, generation and number of epochs of each run
    quiet = 0
    while not app.state.is_ending():
        news = []
        for folder, run in list(watch.runs.items()):
            version, generation, epochs = told.get(folder, (-1, -1, 0))
            if run.version != version:
                start = epochs if run.metrics.generation == generation else 0
                told[folder] = run.version, run.metrics.generation, len(run.metrics.epochs)
                news.append(_message(run, start))
        quiet = 0 if news else quiet + 1
        if news:
            yield f"data: {json.dumps(news)}\n\n"
        elif quiet % _QUIET == 0:
            yield ": nothing new\n\n"
        await asyncio.sleep(_SECONDS)


def _message(run: RunWatch, start: int) -> dict[str, Any]:
    """A run's facts, and its epochs from one on."""
    told = {"name": run.name, "folder": str(run.folder), "from": start, "epochs": run.metrics.epochs[start:]}
    return told | run.facts
