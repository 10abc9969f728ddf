"""A page in a window of its own, what tests wait for there, and the digits that they draw."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ddp_numpy import SingleProcess, load_data


@contextmanager
def opened(chromium: Any, address: str, **options: Any) -> Iterator[Any]:
    """The page at this address. It must ask no other host for anything, and have nothing to say in its console."""
    context = chromium.new_context(**options)
    page, wrong = context.new_page(), []
    page.on("request", lambda request: request.url.startswith((address, "blob:")) or wrong.append(request.url))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: line.type in ("error", "warning") and wrong.append(line.text))
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    yield page
    context.close()
    assert wrong == []


def until(page: Any, expression: str) -> None:
    """Wait until JavaScript finds this to be true. Playwright's own way needs eval, which the pages forbid."""
    end = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        time.sleep(0.02)


def digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Digits of MNIST's test set, and which they are: as many of each."""
    _, valid = load_data("digits", SingleProcess())
    rows = np.sort(np.concatenate([np.flatnonzero(valid.labels == label)[: count // 10] for label in range(10)]))
    return valid.features[rows], valid.labels[rows]
