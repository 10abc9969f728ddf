"""examples/onnx_browser in a real browser."""

import functools
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_examples import copied, shell
from PIL import Image
from windows import digits, opened, until

from ddp_numpy import InputError, load_model
from ddp_numpy.deploy.drawing_page import BUNDLED_RUN
from ddp_numpy.deploy.handwriting import read_picture
from ddp_numpy.deploy.onnxruntime_web import runtime_files


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a web server that shows the example's site."""
    try:
        runtime_files()
    except InputError as error:
        pytest.skip(str(error))
    folder = copied("onnx_browser", tmp_path)
    job = shell("make_site.sh", BUNDLED_RUN, cwd=folder)
    assert job.status == 0, job.err
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def answer(page: Any, path: Path) -> str:
    """What the page says of a file."""
    page.evaluate("document.getElementById('answer').textContent = ''")
    page.set_input_files("#file", path)
    until(page, "document.getElementById('answer').textContent !== ''")
    return str(page.inner_text("#answer"))


def test_the_page_reads_pictures_as_the_package_does(chromium: Any, address: str, tmp_path: Path) -> None:
    model = load_model(BUNDLED_RUN)
    with opened(chromium, address) as page:
        assert page.inner_text("#answer") == "Choose a picture."
        for number, row in enumerate(digits(10)[0]):
            path = tmp_path / f"{number}.png"
            Image.fromarray(255 - row.reshape(28, 28)).resize((90, 120)).save(path)
            (chances,) = model.predict_proba(read_picture(path)[np.newaxis])
            found = re.fullmatch(r"It is a (\d), with a probability of ([\d.]+) %\.", answer(page, path))
            assert found is not None
            assert int(found[1]) == chances.argmax()
            assert float(found[2]) == pytest.approx(100 * chances.max(), abs=0.02)
        (tmp_path / "text.png").write_bytes(b"no picture")
        assert answer(page, tmp_path / "text.png") == "There is no digit in this file."
