"""The server's predictions over HTTP: of rows and pictures, of one request and of many at once."""

import io
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from servers import Answer, Server, serving

from ddp_numpy import Dense, InputError, ReLU, Sequential, SingleProcess, load_data, load_model
from ddp_numpy.deploy.drawing_page import BUNDLED_RUN
from ddp_numpy.deploy.gather import Gatherer
from ddp_numpy.deploy.handwriting import read_picture

NO_FILE = b'--edge\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--edge--\r\n'
_, DIGITS = load_data("digits", SingleProcess())
MODEL = load_model(BUNDLED_RUN)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def predict(server: Server, rows: Any) -> Answer:
    return post(server, json.dumps({"rows": rows}))


def post(server: Server, body: str | bytes, kind: str = "application/json") -> Answer:
    return server.ask("/predict", body, headers={"Content-Type": kind})


def test_rows_get_what_the_model_says(server: Server) -> None:
    X = DIGITS.features[:40]
    answer = predict(server, X.tolist())
    assert answer.status == 200
    assert answer.json["predictions"] == MODEL.predict(X).tolist()
    np.testing.assert_allclose(answer.json["probabilities"], MODEL.predict_proba(X), atol=1e-6)
    assert predict(server, X[:1].tolist()).json["predictions"] == answer.json["predictions"][:1]


def test_pictures_get_what_the_command_says(server: Server, tmp_path: Path) -> None:
    files, expected = [], []
    for number, row in enumerate(DIGITS.features[[5, 205, 505]]):
        large = Image.fromarray(255 - row.reshape(28, 28)).resize((200, 200))
        path = tmp_path / f"{number}.png"
        large.save(path)
        files.append(path.read_bytes())
        expected.append(int(MODEL.predict(read_picture(path)[np.newaxis])[0]))
    assert [post(server, data, "image/png").json["predictions"][0] for data in files] == expected
    assert post(server, *form(files)).json["predictions"] == expected


def form(files: list[bytes], field: str = "pictures") -> tuple[bytes, str]:
    """A body with these files, and its type."""
    parts = [
        f'--edge\r\nContent-Disposition: form-data; name="{field}"; filename="{number}.png"\r\n\r\n'.encode() + data
        for number, data in enumerate(files)
    ]
    return b"\r\n".join([*parts, b"--edge--\r\n"]), "multipart/form-data; boundary=edge"


def picture(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_what_is_wrong_gets_its_reason(server: Server) -> None:
    huge = picture(np.zeros((4, 4), np.uint8))
    huge = huge[:16] + (10**6).to_bytes(4, "big") * 2 + huge[24:]
    rows = "application/json"
    for body, kind, status, words in (
        ("", rows, 422, "Invalid JSON: EOF while parsing"),
        ("[" * 100_000, rows, 422, "Invalid JSON: recursion limit exceeded"),
        ("{}", rows, 422, "rows: Field required"),
        ('{"rows": []}', rows, 422, "rows: .* at least 1 item"),
        ('{"rows": [[1], [1, 2]]}', rows, 422, "rows: they have different lengths"),
        ('{"rows": [[1, 2]]}', rows, 422, r"features have the shape \(1, 2\), and must have \(rows, 784\)"),
        ('{"rows": [["a"]]}', rows, 422, "rows, 0, 0: Input should be a valid number"),
        ('{"rows": [{"a": [1]}]}', rows, 422, "rows, 0, a"),
        (json.dumps({"rows": [[0.0] * 783 + [float("nan")]]}), rows, 422, "row 1, column 784: a value is missing"),
        (
            json.dumps({"rows": [[0.0] * 783 + [1e300]]}),
            rows,
            422,
            "row 1, column 784: 1e.300.* is not a finite float32",
        ),
        (json.dumps({"rows": [[0] * 784] * 1001}), rows, 422, "rows: .* at most 1000 items"),
        (b"[" * (2**24 + 1), rows, 413, "the body has more than 16,777,216 bytes"),
        (b"nothing", "image/png", 422, "the picture: no picture that can be read"),
        (huge, "image/png", 422, "the picture: (.*pixels|no picture that can be read)"),
        (picture(np.full((50, 50), 240, np.uint8)), "image/png", 422, "the picture: nothing is drawn on it"),
        (
            picture(np.zeros((2049, 2049), np.uint8)),
            "image/png",
            422,
            "2,049 x 2,049 pixels; at most 4,194,304 are read",
        ),
        (*form([b"nothing"]), 422, "0.png: no picture that can be read"),
        (NO_FILE, form([])[1], 422, "there is no picture in the form"),
        (b"nothing", "multipart/form-data; boundary=edge", 400, ""),
        (b"nothing", "text/plain", 415, "send application/json"),
    ):
        answer = post(server, body, kind)
        assert answer.status == status, answer
        assert re.search(words, answer.json["detail"]), answer.json
    assert server.ask("/predict").status == 404
    assert server.ask("/model", "{}").status == 405


def test_the_server_tells_of_itself(server: Server) -> None:
    assert server.ask("/health").json == {"status": "ok"}
    about = server.ask("/model").json
    assert (about["parameters"], about["classes"]) == (7924, list(range(10)))
    assert about["trained"]["valid_accuracy"] > 0.99
    described = server.ask("/openapi.json").json
    assert {"/predict", "/model", "/health", "/metrics"} == set(described["paths"])
    predict(server, [[0] * 784])
    lines = server.ask("/metrics").body.decode().splitlines()
    counts = {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}
    assert counts['ddp_numpy_request_seconds_count{path="/predict",status="200"}'] >= 1
    assert counts["ddp_numpy_pass_rows_sum"] >= 1
    for path in ("/health", "/metrics", "/predict", "/nothing", "/openapi.json"):
        headers = server.ask(path).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


def test_many_at_once_each_get_their_own(server: Server) -> None:
    X, expected = DIGITS.features, MODEL.predict(DIGITS.features)
    wrong: list[object] = []

    def ask(first: int) -> None:
        for at in range(first, 400, 16):
            rows = X[at : at + at % 3 + 1]
            answer = predict(server, rows.tolist() if at % 10 else [[1.0]])
            good = answer.status == 422 if at % 10 == 0 else (
                answer.json["predictions"] == expected[at : at + at % 3 + 1].tolist()
            )  # fmt: skip
            if not good:
                wrong.append(answer)

    together(ask, 16)
    assert wrong == []


def together(work: Callable[[int], None], count: int) -> None:
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_tables_are_given_by_the_names_of_their_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(0, 1, 80).round(3), "colour": rng.choice(["red", "blue"], 80)})
    table["price"] = (3 * table["size"] + (table["colour"] == "red")).round(3)
    table.to_csv(tmp_path / "t.csv", index=False)
    train = [sys.executable, "-m", "ddp_numpy.train", "--data", "t.csv", "--task", "regress", "--label-column", "price",
             "--epochs", "3", "--out", "run", "--quiet"]  # fmt: skip
    subprocess.run(train, cwd=tmp_path, check=True, timeout=60)
    model = load_model(tmp_path / "run")
    with serving("--weights", tmp_path / "run") as server:
        rows = table[["colour", "size"]].head(5)
        answer = predict(server, json.loads(rows.to_json(orient="records")))
        np.testing.assert_allclose(answer.json["predictions"], model.predict(rows))
        assert answer.json["probabilities"] is None
        assert server.ask("/").status == 307
        assert server.ask("/model").json["columns"] == ["size", "colour"]
        for given, words in (
            ([{"size": 1}], "has no column 'colour'"),
            ([{"size": "a", "colour": "red"}], "'size'"),
            ([{"size": 10**400, "colour": "red"}], ""),
            ([[1, 2, 3, 4]], "features have the shape"),
        ):
            answer = predict(server, given)
            assert answer.status == 422, answer
            assert words in answer.json["detail"]


def test_requests_gather_while_a_pass_runs() -> None:
    model = Sequential(Dense(8), ReLU(), Dense(3))
    model.build((4,))
    model.initialize(np.random.default_rng(0))
    go_on, begun, passes = threading.Event(), threading.Event(), []

    def passed(rows: int) -> None:
        passes.append(rows)
        begun.set()
        go_on.wait(10)

    gatherer = Gatherer(model, 10, passed)
    X = np.random.default_rng(1).normal(size=(30, 4))
    first = gatherer.submit(X[:1])
    assert begun.wait(10)
    huge = np.full((1, 4), 1e300)
    others = [gatherer.submit(rows) for rows in (X[1:4], X[4:8], huge, X[8:16], X[16:30])]
    given_up = gatherer.submit(X[:5])
    assert given_up.cancel()
    go_on.set()
    gatherer.close()
    assert passes == [1, 3, 4, 8, 14]  # the pass with the wrong row was taken again, request by request
    expected = model.logits(X)
    for found, rows in zip([first, *others], (slice(1), slice(1, 4), slice(4, 8), None, slice(8, 16), slice(16, 30)),
                           strict=True):  # fmt: skip
        if rows is None:
            with pytest.raises(InputError, match="row 1, column 1"):
                found.result(0)
        else:
            np.testing.assert_allclose(found.result(0), expected[rows], rtol=1e-5)


def test_what_no_one_thought_of_is_no_error_of_the_server() -> None:
    command = shutil.which("schemathesis", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("no schemathesis: make test-browser installs it")
    with serving() as server:
        tried = subprocess.run(
            [command, "run", f"{server.address}openapi.json", "--checks", "not_a_server_error",
             "--max-examples", "150", "--seed", "1", "--no-color"],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert tried.returncode == 0, tried.stdout + tried.stderr
        print(tried.stdout[-1500:])
