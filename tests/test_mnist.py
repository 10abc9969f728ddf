import gzip
import hashlib
import http.server
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from ddp_numpy import InputError, SingleProcess, load_data
from ddp_numpy.data.idx import read_idx_split
from ddp_numpy.data.mnist import SHA256, bundled_digits, download_mnist

CHECKOUT = Path(__file__).parents[1]
NAMES = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"]


def test_the_bundled_digits() -> None:
    train, valid = load_data("digits", SingleProcess())
    assert train.features.shape == (6000, 784)
    assert valid.features.shape == (1000, 784)
    np.testing.assert_array_equal(np.bincount(train.labels), [600] * 10)
    np.testing.assert_array_equal(np.bincount(valid.labels), [100] * 10)
    assert (train.classes, str(train.scale)) == (10, "divided by 255")


def test_the_script_draws_the_bundled_digits(mnist: Path, tmp_path: Path) -> None:
    script = tmp_path / "draw_digits.py"
    script.write_bytes((CHECKOUT / "data" / "draw_digits.py").read_bytes())
    (tmp_path / "digits").mkdir()
    subprocess.run([sys.executable, script, mnist], check=True, timeout=60)
    for split in ("train", "t10k"):
        for drawn, bundled in zip(
            read_idx_split(tmp_path / "digits", split), read_idx_split(bundled_digits(), split), strict=True
        ):
            np.testing.assert_array_equal(drawn, bundled)


@pytest.fixture
def serve() -> Iterator[Callable[[Path], str]]:
    """Starts HTTP servers of folders on localhost; gives their addresses."""
    servers = []

    def start(folder: Path) -> str:
        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *args: object) -> None:
                super().__init__(*args, directory=str(folder))  # type: ignore[arg-type]

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # How often it looks whether to end: the end waits for that.
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def checksums(folder: Path) -> dict[str, str]:
    return {n: hashlib.sha256(gzip.decompress((folder / f"{n}.gz").read_bytes())).hexdigest() for n in NAMES}


def test_download_checks_keeps_and_mends(serve: Callable[[Path], str], own_cache: Path, tmp_path: Path) -> None:
    good, bad = bundled_digits(), tmp_path
    for name in NAMES[:3]:
        (bad / f"{name}.gz").write_bytes(gzip.compress(b"something else"))
    (bad / f"{NAMES[1]}.gz").write_bytes((good / f"{NAMES[1]}.gz").read_bytes()[:-20])  # cut short; the last is missing
    expected = checksums(good)
    good_url, bad_url = serve(good), serve(bad)
    folder = download_mnist([bad_url, good_url], expected)
    assert folder == own_cache / "ddp_numpy" / "mnist"
    assert sorted(path.name for path in folder.iterdir()) == sorted(NAMES)
    np.testing.assert_array_equal(read_idx_split(folder, "train")[0], read_idx_split(good, "train")[0])
    download_mnist(["http://127.0.0.1:9/"], expected)  # kept: no server
    (folder / NAMES[0]).write_bytes(b"damaged on the disk")
    download_mnist([good_url], expected)
    assert {n: hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in NAMES} == expected


def test_download_that_no_mirror_serves(serve: Callable[[Path], str], own_cache: Path, tmp_path: Path) -> None:
    wrong, empty = tmp_path / "wrong", tmp_path / "empty"
    wrong.mkdir()
    empty.mkdir()
    for name in NAMES:
        (wrong / f"{name}.gz").write_bytes(gzip.compress(b"something else"))
    wrong_url, empty_url = serve(wrong), serve(empty)
    with pytest.raises(InputError) as raised:
        download_mnist([wrong_url, empty_url, "http://127.0.0.1:9/"])
    message = str(raised.value)
    assert message.startswith(f"can't download {NAMES[0]}: {wrong_url}: checksum mismatch; {empty_url}: 404")
    assert "Put the four files of MNIST into a folder" in message
    assert "\n" not in message
    assert not list((own_cache / "ddp_numpy" / "mnist").iterdir())


def test_the_whole_of_mnist(
    mnist: Path, serve: Callable[[Path], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert checksums(mnist) == SHA256
    monkeypatch.setattr("ddp_numpy.data.mnist.download_mnist", lambda: download_mnist([serve(mnist)]))
    train, valid = load_data("mnist", SingleProcess())
    assert (len(train), len(valid)) == (60000, 10000)
    from_folder, _ = load_data(str(mnist), SingleProcess())
    np.testing.assert_array_equal(train.features, from_folder.features)
