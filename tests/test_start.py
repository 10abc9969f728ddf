"""Where a run starts from: a checkpoint of its own, an older one, or one that lies elsewhere."""

from pathlib import Path

import numpy as np
import pytest
from run_folders import contents, epoch, lines, opened

from ddp_numpy import InputError
from ddp_numpy.runs.folder import RunFolder
from ddp_numpy.runs.resume import find_start
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.settings import Settings


def test_a_checkpoint_that_lies_in_no_run_goes_on_in_a_new_folder(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", [])
    run.save(Snapshot(2, 5, {"params": np.zeros(2)}), 25)
    run.close()
    (checkpoint,) = (tmp_path / "run" / "checkpoints").iterdir()
    theirs = tmp_path / "project"
    (theirs / "checkpoints").mkdir(parents=True)
    (theirs / "config.toml").write_text("[tool]\n")
    (theirs / "metrics.jsonl").write_text("mine")
    for place in (theirs / "best.npz", theirs / "checkpoints" / "step-0000000025.npz"):
        place.write_bytes(checkpoint.read_bytes())
        start = find_start(str(place), None, pytest.fail)
        assert (start.folder, start.path, start.may_hold_run) == (None, place, False)
        with pytest.raises(InputError, match="not empty, and without"):
            find_start(str(place), theirs, pytest.fail)
    assert find_start(str(theirs), None, pytest.fail).folder is None
    with pytest.raises(InputError, match="not empty, and without"):
        find_start("auto", theirs, pytest.fail)
    start = find_start(str(checkpoint), None, pytest.fail)
    assert (start.folder, start.may_hold_run) == (tmp_path / "run", True)


def test_going_back_keeps_what_was_there_of_later(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    for number in range(1, 6):
        best = run.add_epoch(epoch(number, accuracy=0.5 if number == 4 else 0.4))
        run.save(Snapshot(number, 0, {"params": np.full(2, float(number))}), 10 * number, best)
        run.how_to_go_on()  # it waits until the checkpoint is written
    run.close()
    assert len(contents(tmp_path / "checkpoints")) == 4  # three of them the newest
    later = {path.name: path.read_bytes() for path in (tmp_path / "checkpoints").iterdir() if "30" not in path.name}
    complaints: list[str] = []
    start = find_start(str(tmp_path / "checkpoints" / "step-0000000030.npz"), None, pytest.fail)
    RunFolder(start, Settings(), {}, {}, 30, complaints.append).close()
    (aside,) = tmp_path.glob("abandoned-*")
    assert complaints == [
        f"{tmp_path}: goes on after epoch 3, step 0; {aside} keeps the later checkpoints (3) and lines of metrics (2)"
    ]
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2, 3]
    assert [line["epoch"] for line in lines(aside)] == [4, 5]
    assert {path.name: path.read_bytes() for path in aside.glob("*.npz")} == later
    again = find_start("auto", tmp_path, pytest.fail)
    assert again.path == tmp_path / "checkpoints" / "step-0000000030.npz"
    RunFolder(again, Settings(), {}, {}, 30, pytest.fail).close()  # which goes back no further
    start = find_start(str(aside / "step-0000000050.npz"), None, pytest.fail)
    assert (start.folder, start.may_hold_run) == (None, False)


def test_going_back_to_the_best(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    for number in range(1, 6):
        run.save(Snapshot(number, 0, {"params": np.full(2, float(number))}), 10 * number, number == 1)
        run.how_to_go_on()
    run.close()
    start = find_start(str(tmp_path / "checkpoints" / "best.npz"), None, pytest.fail)
    complaints: list[str] = []
    RunFolder(start, Settings(), {}, {}, 10, complaints.append).close()
    assert "checkpoints (3) and lines of metrics (0)" in complaints[0]
    again = find_start("auto", tmp_path, pytest.fail)
    assert again.path == tmp_path / "checkpoints" / "best.npz"


def test_another_numpy_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = opened(tmp_path, [])
    run.save(Snapshot(2, 5, {"params": np.zeros(2)}), 25)
    run.close()
    start = find_start("auto", tmp_path, pytest.fail)
    major, minor, *_ = np.__version__.split(".")
    start.check(Settings(), {}, pytest.fail)
    for version, warned in ((f"{major}.{minor}.99", False), (f"{major}.{int(minor) + 1}.0", True), ("9.9", True)):
        complaints: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr("numpy.__version__", version)
            start.check(Settings(), {}, complaints.append)
        assert bool(complaints) == warned
        assert all(f"made with NumPy {np.__version__}, and now it is {version}" in line for line in complaints)
