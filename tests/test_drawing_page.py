"""The files of the drawing page, and the command that hands them out. What the page does is tried in tests/browser."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from jobs import run_job
from servers import Server, serving

from ddp_numpy import Dense, InputError, Sequential, save_model
from ddp_numpy.deploy import onnxruntime_web
from ddp_numpy.deploy.drawing_page import BUNDLED_RUN, page_files, read_steps, write_page

COMMAND = ("-m", "ddp_numpy.serve")


def saved(path: Path, inputs: int = 784, classes: int = 3) -> Path:
    model = Sequential(Dense(classes))
    model.build((inputs,))
    model.initialize(np.random.default_rng(0))
    save_model(model, path)
    return path


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Of the network that comes with the package."""
    with serving() as server:
        yield server


def test_the_page_has_all_that_it_names(tmp_path: Path) -> None:
    files = page_files(read_steps(BUNDLED_RUN))
    network = json.loads(files["network.json"])
    worker = files["worker.js"].decode()
    kept = json.loads(worker.partition("const FILES = ")[2].partition(";")[0])
    assert set(kept) == {"./", *files} - {"worker.js"}
    for shown, step in zip(network["steps"], read_steps(BUNDLED_RUN), strict=True):
        weights = np.concatenate([step.model.params, step.model.buffers])
        np.testing.assert_array_equal(np.frombuffer(files[shown["weights"]], "<f4"), weights)
    for name in ("page.css", "page.js", "icon.svg", "icon.png", "manifest.webmanifest"):
        assert name in files["index.html"].decode()
    other = page_files(read_steps(saved(tmp_path / "m.npz")))
    assert worker.splitlines()[2] != other["worker.js"].decode().splitlines()[2]  # the browser keeps each on its own


def test_a_server_hands_out_these_files_and_no_others(server: Server) -> None:
    files = page_files(read_steps(BUNDLED_RUN))
    for name, data in files.items():
        status, headers, body = server.ask(f"/{name}")
        assert (status, body) == (200, data)
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "server" not in headers
        assert server.ask(f"/{name}", headers={"If-None-Match": headers["etag"]}).status == 304
    kinds = {"": "text/html", "page.js": "text/javascript", "manifest.webmanifest": "application/manifest+json"}
    for name, kind in kinds.items():
        assert server.ask(f"/{name}", method="HEAD").headers["content-type"].partition(";")[0] == kind
    for path in ("/../serve.py", "/..%2fserve.py", "//etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/etc/passwd", "/docs",
                 "/weights-99.bin", "/" + "a" * 5000, "/%00"):  # fmt: skip
        assert server.ask(path).status == 404, path
    assert server.ask("/", b"").status == 405


def test_a_folder_gets_the_page_and_keeps_other_files(tmp_path: Path) -> None:
    many, one = page_files(read_steps(BUNDLED_RUN)), page_files(read_steps(saved(tmp_path / "m.npz")))
    folder = tmp_path / "site"
    write_page(many, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == many
    (folder / "CNAME").write_text("digits.example\n")
    write_page(one, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**one, "CNAME": b"digits.example\n"}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(InputError, match="mine: has files in it, and no page of this package; choose another folder"):
        write_page(one, tmp_path / "mine")
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"


def test_the_command_writes_a_folder(tmp_path: Path) -> None:
    saved(tmp_path / "m.npz")
    job = run_job(None, *COMMAND, "--weights", "m.npz", "--static", "site", cwd=tmp_path)
    assert job.status == 0, job.err
    assert job.out.startswith("site: the page, ")
    assert {path.name: path.read_bytes() for path in (tmp_path / "site").iterdir()} == page_files(
        read_steps(tmp_path / "m.npz")
    )


def test_what_can_t_be_shown_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "m.npz")
    saved(tmp_path / "small.npz", inputs=64)
    (tmp_path / "none.npz").write_bytes(b"PK")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for arguments, words in (
            (("--weights", "none.npz"), "none.npz: damaged, or not a model or checkpoint of this package"),
            (("--weights", "missing.npz"), "missing.npz: No such file or directory"),
            (
                ("--weights", "small.npz", "--static", "site"),
                "small.npz: the model takes 64 features, and a drawing becomes 28 x 28 pixels",
            ),
            (("--port", str(port)), f"--host 127.0.0.1 --port {port}: Address already in use; choose another one"),
            (("--host", "no.such.host.invalid"), "--host no.such.host.invalid --port 8000: "),
            (("--port", "70000"), "Invalid value for '--port'"),
            (("--static", "m.npz"), "m.npz: can't write: "),
        ):
            job = run_job(None, *COMMAND, *arguments, cwd=tmp_path)
            assert (job.status, len(job.error_lines)) == (2, 1), job.err
            assert job.error_lines[0].startswith(f"error: {words}"), job.err


def test_another_file_in_place_of_the_runtime_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.tgz").write_bytes(b"other")
    with pytest.raises(InputError, match=r"--onnxruntime: can't download file:.*; leave the option out"):
        onnxruntime_web.runtime_files((tmp_path / "other.tgz").as_uri())
    with pytest.raises(InputError, match=r"--onnxruntime: can't download http://127.0.0.1:9.*; leave the option out"):
        onnxruntime_web.runtime_files("http://127.0.0.1:9/")
