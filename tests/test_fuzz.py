"""Data files and cache entries with random damage: the rows, or one line; never a traceback, hang or changed file.

DDP_NUMPY_FUZZ_SECONDS: how long each kind is tried. DDP_NUMPY_FUZZ_SEED: another sequence of files.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from fuzz import corpus_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory import memory_left

from ddp_numpy import Dataset, InputError, SingleProcess, load_data
from ddp_numpy.data.csv_parts import _joined, _read_part
from ddp_numpy.data.files import read_table
from ddp_numpy.data.table import TableOptions

SECONDS = float(os.environ.get("DDP_NUMPY_FUZZ_SECONDS", "4"))
SEED = int(os.environ.get("DDP_NUMPY_FUZZ_SEED", "0"))
_LONGEST_SECONDS = 20  # a file of a few KB takes a few ms

Rng = np.random.Generator


def damaged_file(rng: Rng, folder: Path) -> bool:
    """Returns whether it could be trained on all the same."""
    words = corpus_data.make(rng, folder)
    assert load(words, folder) is not None
    path = rng.choice(sorted(folder.iterdir()))
    path.write_bytes(corpus_data.damage(rng, path.read_bytes()))
    return load(words, folder, str(rng.choice(["error", "mean", "drop"]))) is not None


def damaged_csv_in_parts(rng: Rng, folder: Path) -> bool:
    """What ranks read together is what one rank reads alone. Returns whether they read it, and not rank 0 alone."""
    _, _, *label_column = corpus_data.csv(rng, folder)
    (path,) = folder.iterdir()
    if rng.random() < 0.8:
        path.write_bytes(corpus_data.damage(rng, path.read_bytes()))
    ranks = int(rng.integers(2, 5))
    options = TableOptions(label_column[1] if label_column else None)
    parts = [part for rank in range(ranks) if (part := _read_part(path, options, rank, ranks)) is not None]
    if len(parts) < ranks:
        return False
    error = error_alone = together = alone = None
    try:
        together = _joined(parts, path, options)
    except InputError as raised:
        error = str(raised)
    if together is None and error is None:
        return False
    try:
        alone = read_table(path, options)
    except InputError as raised:
        error_alone = str(raised)
    assert error == error_alone
    if together is not None and alone is not None:
        assert together.features.dtype == alone.features.dtype
        np.testing.assert_array_equal(together.features, alone.features)
        np.testing.assert_array_equal(together.labels, alone.labels)
        assert dataclasses.replace(together, features=0, labels=0) == dataclasses.replace(alone, features=0, labels=0)
    return True


def damaged_cache(rng: Rng, folder: Path) -> bool:
    words = corpus_data.csv(rng, folder)
    expected = load(words, folder)
    assert expected is not None
    (entry,) = (Path(os.environ["XDG_CACHE_HOME"]) / "ddp_numpy" / "tables").iterdir()
    entry.write_bytes(corpus_data.damage_bytes(rng, entry.read_bytes()))
    for _ in range(2):  # the second time from the new entry
        again = load(words, folder)
        assert again is not None
        assert [data.sha256() for data in again] == [data.sha256() for data in expected]
    entry.unlink()
    return True


def load(words: list[str], folder: Path, missing: str = "error") -> tuple[Dataset, Dataset] | None:
    """What load_data reads, checked; None if it ends in one line."""
    options = dict(zip(words[::2], words[1::2], strict=True))
    before = corpus_data.files(folder)
    loaded = None
    try:
        path = folder / options["--data"]
        loaded = load_data(str(path), SingleProcess(), label_column=options.get("--label-column"), missing=missing)
    except InputError as error:
        lines = str(error).splitlines()
        assert len(lines) == 1, lines
    assert corpus_data.files(folder) == before
    for data in loaded or ():
        assert len(data.features) == len(data.labels) > 0
        assert data.features.dtype in (np.uint8, np.float32, np.float64)
        assert np.isfinite(data.features).all()
        assert data.labels.dtype == np.int64
        assert 0 <= data.labels.min() <= data.labels.max() < data.classes
    if loaded is not None:
        train, valid = loaded
        assert train.features.shape[1:] == valid.features.shape[1:] != (0,)
        assert set(train.labels) == set(range(train.classes))
    return loaded


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """A block that raises TimeoutError if it hangs."""

    def hangs(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {_LONGEST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(_LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("case", [damaged_file, damaged_csv_in_parts, damaged_cache])
def test_damaged_data(case: Callable[[Rng, Path], bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # nobody cuts the power, and it takes most of the time
    deadline, tried, taken = time.monotonic() + SECONDS, 0, 0
    while time.monotonic() < deadline or tried <= 20 * SECONDS:  # a busy machine takes longer for as many
        folder = tmp_path / str(tried)
        folder.mkdir()
        try:
            with memory_left(2**31), in_time():
                taken += case(np.random.default_rng((SEED, tried)), folder)
        except BaseException as error:
            raise AssertionError(f"DDP_NUMPY_FUZZ_SEED={SEED}, number {tried}, in {folder}") from error
        shutil.rmtree(folder)
        tried += 1
    assert taken > 10  # some damage does not matter


_CELLS = st.integers().map(str) | st.floats().map(str) | st.text(max_size=5) | st.sampled_from(["0", "1", '"', ""])


@settings(max_examples=int(25 * SECONDS), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(_CELLS, min_size=1, max_size=4), max_size=6), st.sampled_from(["\n", "\r\n", "\r"]))
def test_any_cells(tmp_path: Path, rows: list[list[str]], end: str) -> None:
    text = end.join(["label,a,b", "0,1,2", "1,2,1", *map(",".join, rows)])
    (tmp_path / "t.csv").write_bytes(text.encode(errors="surrogatepass"))
    load(["--data", "t.csv"], tmp_path)
