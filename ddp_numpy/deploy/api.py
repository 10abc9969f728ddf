"""Predictions over HTTP: rows as JSON, or pictures of digits, and what the network says of them."""

import asyncio
import contextlib
import io
import math
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from pydantic import BaseModel, Field, ValidationError
from python_multipart.exceptions import FormParserError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.deploy.gather import Gatherer
from ddp_numpy.deploy.handwriting import SIDE, digit_on
from ddp_numpy.deploy.server import add_files, make_app
from ddp_numpy.nn import Array, Sequential

MOST_ROWS = 1000  # or pictures, of a request
_MOST_PIXELS = 2**22  # of a picture
_AT_ONCE = threading.Semaphore(2)  # pictures that are unpacked: each takes up to 60 MB
_MOST_TOGETHER = 1024  # rows of several requests
_COUNTED = ("/predict", "/model", "/health", "/metrics")  # paths, one by one
_SMALL_BODY = 2**16  # bytes, which are read in a millisecond; others must not hold up other requests

Cell = float | Annotated[int, Field(ge=-(2**63), lt=2**64)] | str | bool | None  # larger ones are no number of pandas'
_SIZE = Field(min_length=1, max_length=MOST_ROWS)


class Rows(BaseModel):
    """Rows to predict: lists of numbers as the model takes them, or objects with its columns by name."""

    rows: Annotated[list[list[float]], _SIZE] | Annotated[list[dict[str, Cell]], _SIZE]


class Predictions(BaseModel):
    """What the network says of each row, in the order of the rows."""

    predictions: list[str | bool | int | float]
    """The likeliest class, or the number."""
    probabilities: list[list[float]] | None = None
    """Of each class, in the order of /model; null if the model predicts numbers."""


class Metrics:
    """Counts for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.seconds = Histogram(
            "ddp_numpy_request_seconds", "From a request to its answer.", ["path", "status"], registry=self.registry
        )
        self.pass_rows = Histogram(
            "ddp_numpy_pass_rows", "Rows that went through the network together.", registry=self.registry,
            buckets=[2**power for power in range(11)],
        )  # fmt: skip


_BODIES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": Rows.model_json_schema()},
            "image/png": {"schema": {"type": "string", "format": "binary"}},
            "image/jpeg": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "pictures": {"type": "array", "items": {"type": "string", "format": "binary"}, "minItems": 1}
                    },
                    "required": ["pictures"],
                }
            },
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": words, "content": {"application/json": {"schema": {"type": "object"}}}}
    for status, words in (
        (400, "The form is damaged."), (413, "The body is too large."), (415, "The body is of another type."),
        (422, "The rows or pictures are not what the model takes; detail says why."),
    )
}  # fmt: skip


def predicting_app(files: dict[str, bytes], model: Sequential, most_together: int = _MOST_TOGETHER) -> FastAPI:
    """The application that answers with these files by name, and with predictions.

    most_together: rows of several requests that go through the network in one pass.
    """
    metrics = Metrics()
    gatherer = Gatherer(model, most_together, metrics.pass_rows.observe)

    @contextlib.asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        yield
        gatherer.close()

    def observe(path: str, status: int, seconds: float) -> None:
        metrics.seconds.labels(path if path in _COUNTED else "other", status).observe(seconds)

    app = make_app(observe, lifespan=living)
    app.include_router(_make_router(model, gatherer, metrics))
    add_files(app, files, "model")
    return app


def _make_router(model: Sequential, gatherer: Gatherer, metrics: Metrics) -> APIRouter:
    """The routes /predict, /model, /health and /metrics."""
    router = APIRouter()

    @router.post("/predict", openapi_extra=_BODIES, responses=_ERRORS)
    async def predict(request: Request) -> Predictions:
        """Predict rows, given as JSON, or pictures of digits: one as the body, or several in a form."""
        try:
            features = await _features(request, model)
            logits = await asyncio.wrap_future(gatherer.submit(features))
        except InputError as error:
            raise HTTPException(422, one_line(error)) from None
        probabilities = None if model.target is not None else model.probabilities_of(logits).tolist()
        return Predictions(predictions=model.predictions_of(logits).tolist(), probabilities=probabilities)

    @router.get("/model")
    def about() -> dict[str, Any]:
        """What the model takes and returns, and where it came from."""
        columns = [column.name for column in model.columns]
        return {
            "network": str(model),
            "parameters": model.params.size,
            "input_shape": list(model.input_shape or ()),
            "columns": columns or None,
            "classes": list(model.classes) or None,
            "trained": model.trained,
        }

    @router.get("/health")
    def health() -> dict[str, str]:
        """That the server is there."""
        return {"status": "ok"}

    @router.get("/metrics", response_class=Response)
    def numbers() -> Response:
        """Counts and times in Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def _features(request: Request, model: Sequential) -> Array:
    """The raw features (m, *input_shape), float64, of a request's body. Raises InputError, and HTTPException."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        body = await request.body()
        if len(body) <= _SMALL_BODY:
            return _of_json(body, model)
        return await run_in_threadpool(_of_json, body, model)
    if kind.startswith("image/"):
        return await run_in_threadpool(_of_pictures, [("the picture", await request.body())], model)
    if kind == "multipart/form-data":
        return await run_in_threadpool(_of_pictures, await _files(request), model)
    raise HTTPException(415, "send application/json, one picture as image/png or image/jpeg, or a form with several")


async def _files(request: Request) -> list[tuple[str, bytes]]:
    """The files of a form, with their names."""
    try:
        async with request.form(max_files=MOST_ROWS, max_fields=MOST_ROWS) as form:
            parts = [(name, one) for name, one in form.multi_items() if isinstance(one, UploadFile)]
            return [(one.filename or name, await one.read()) for name, one in parts]
    except FormParserError as error:  # which Starlette 0.46 lets through
        raise HTTPException(400, one_line(error)) from None


def _of_json(body: bytes, model: Sequential) -> Array:
    try:
        rows = Rows.model_validate_json(body).rows
    except ValidationError as error:
        # It names what is wrong for each of the two kinds of rows; what goes deepest is of the kind that is there.
        worst = max(error.errors(include_url=False, include_input=False), key=lambda one: len(one["loc"]))
        place = ", ".join(str(part) for part in worst["loc"] if "[" not in str(part))
        raise InputError(f"{place + ': ' if place else ''}{worst['msg']}") from None
    if isinstance(rows[0], dict):
        import pandas as pd  # which takes 0.3 s once, and rows of numbers do without it

        return np.asarray(model.features(pd.DataFrame(rows)), np.float64)
    if len({len(row) for row in rows}) > 1:
        raise InputError("rows: they have different lengths")
    return np.asarray(model.features(_shaped(np.array(rows, np.float64), model)), np.float64)


def _of_pictures(pictures: Sequence[tuple[str, bytes]], model: Sequential) -> Array:
    if not pictures:
        raise InputError("there is no picture in the form")
    if math.prod(model.input_shape or ()) != SIDE**2:
        raise InputError(f"the model takes {math.prod(model.input_shape or ()):,} numbers, and no pictures")
    digits = []
    for name, data in pictures:
        with _AT_ONCE:
            digits.append(digit_on(io.BytesIO(data), one_line(name), _MOST_PIXELS))
    return np.asarray(model.features(_shaped(np.array(digits), model)), np.float64)


def _shaped(rows: Array, model: Sequential) -> Array:
    """Rows of as many numbers as the model takes, in its shape; others as they are."""
    shape = model.input_shape or ()
    return rows.reshape(-1, *shape) if rows.shape[1] == math.prod(shape) else rows
