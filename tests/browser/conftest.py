import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

Serve = Callable[..., tuple[str, subprocess.Popen[str]]]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: make test-browser installs it")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on PATH")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def serve() -> Iterator[Serve]:
    """Starts servers: from the arguments of the command to their address and process. All end with the module."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(served(*arguments))


@contextmanager
def served(*arguments: Any) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-u", "-m", "ddp_numpy.serve", "--port", "0", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("http://"), line + process.stdout.read()
            yield line.split()[0], process
        finally:
            process.terminate()
            process.wait(10)
