import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddp_numpy import Dense, InputError, ReLU, Scale, Sequential, load_model, save_model
from ddp_numpy.base.files import atomic_write, remove_temporaries


def built_model() -> Sequential:
    model = Sequential(Dense(4), ReLU(), Dense(3))
    model.build((6,))
    model.initialize(np.random.default_rng(0))
    model.scale = Scale(16.0)
    return model


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_names_can_be_written(tmp_path: Path) -> None:
    for name in ("x" * 255, "two\nlines", "\udcff"):
        with atomic_write(tmp_path / name) as file:
            file.write(b"x")
        assert (tmp_path / name).read_bytes() == b"x"


def test_only_the_owners_temporary_files_are_removed(tmp_path: Path) -> None:
    names = [".ddp_numpy-mine-01.tmp", ".ddp_numpy-mine-02.tmp", ".ddp_numpy-file-01.tmp", ".notes.tmp", ".x.tmp"]
    for name in names:
        (tmp_path / name).write_bytes(b"half")
    os.utime(tmp_path / names[0], times=(0, 0))
    remove_temporaries(tmp_path, "mine", idle_seconds=60)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
    remove_temporaries(tmp_path, "mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[2:])


def test_a_process_killed_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = (
        "import sys, time; from pathlib import Path; from ddp_numpy.base.files import atomic_write\n"
        "with atomic_write(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); print('ready', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, path], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert path.read_bytes() == b"old"


def test_files_get_the_permissions_that_open_would_give(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "ours") as file:
        file.write(b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert os.stat(tmp_path / "ours").st_mode == os.stat(tmp_path / "plain").st_mode


def test_a_model_comes_back_from_its_file(tmp_path: Path) -> None:
    model = built_model()
    save_model(model, tmp_path / "model.npz")
    again = load_model(tmp_path / "model.npz")
    assert str(again) == str(model)
    assert again.dtype == np.float32
    np.testing.assert_array_equal(again.params, model.params)
    X = np.arange(60).reshape(10, 6).astype(np.uint8)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    with np.load(tmp_path / "model.npz", allow_pickle=False) as arrays:
        description = json.loads(str(arrays["model"]))
    assert description["classes"] == 3
    assert description["input_divisor"] == 16.0


def altered(description: dict[str, object]) -> dict[str, np.ndarray]:
    return {"model": np.array(json.dumps(description)), "params": np.zeros(43, np.float32)}


def test_files_that_hold_no_model(tmp_path: Path) -> None:
    path = tmp_path / "model.npz"
    with pytest.raises(InputError, match="No such file"):
        load_model(path)
    save_model(built_model(), path)
    whole = path.read_bytes()
    with np.load(path) as arrays:
        description = json.loads(str(arrays["model"]))
    for data in (b"", b"text", whole[:-100], whole[:200] + b"\xff" * 8 + whole[208:]):
        path.write_bytes(data)
        with pytest.raises(InputError, match="damaged, or not a model or checkpoint of this package"):
            load_model(path)
    for contents, message in (
        ({"X": np.zeros(3)}, "has no array model or checkpoint"),
        (altered({**description, "format": "ddp_numpy model 9"}), "has the format 'ddp_numpy model 9'; this version"),
        (altered({**description, "layers": [{"type": "os.system"}]}), "layer 1 is of the class 'os.system', which is"),
        (altered({**description, "layers": [{"type": "Dense", "outputs": 9}]}), "the model has 63 parameters"),
    ):
        np.savez(path, **contents)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            load_model(path)


def test_a_model_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="can't write"):
        save_model(built_model(), tmp_path / "missing" / "model.npz")
