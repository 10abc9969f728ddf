import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from ddp_numpy import Dense, InputError, Sequential
from ddp_numpy.runs.folder import RunFolder
from ddp_numpy.runs.resume import Start, find_start
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.settings import Settings
from ddp_numpy.training.metrics import Epoch


def opened(folder: Path, complaints: list[str], start: Start | None = None) -> RunFolder:
    return RunFolder(start or Start(folder), Settings(), {}, complaints.append)


def epoch(number: int, loss: float = 0.5, accuracy: float = 0.9) -> Epoch:
    return Epoch(number, loss, 0.9, loss, accuracy, 1e5, 0.1)


def model() -> Sequential:
    model = Sequential(Dense(3))
    model.build((4,))
    return model


def lines(folder: Path) -> list[dict[str, float]]:
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line, parse_constant=pytest.fail) for line in text.splitlines()]


def test_metrics_are_valid_json_whatever_the_loss(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", [])
    assert [run.add_epoch(epoch(n, loss)) for n, loss in enumerate((0.5, float("nan"), float("inf")), 1)] == [
        True,  # the best so far
        False,
        False,
    ]
    run.close()
    assert [line["train_loss"] for line in lines(tmp_path / "run")] == [0.5, None, None]


def test_a_finished_runs_folder_is_not_written_to_again(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    run.add_epoch(epoch(1))
    run.finish(model())
    run.close()
    with pytest.raises(InputError, match=r"holds metrics\.jsonl of another run.*--resume auto"):
        opened(tmp_path, [])
    assert not (tmp_path / ".lock").exists()


def test_a_folder_that_can_not_be_opened_is_left_unlocked(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="can't write there: File exists"):
        opened(tmp_path, [], Start(tmp_path, may_hold_run=True))
    assert not (tmp_path / ".lock").exists()


def test_temporary_files_of_a_killed_run_go(tmp_path: Path) -> None:
    (tmp_path / ".config.toml.01234567.tmp").write_text("half")
    opened(tmp_path, [], Start(tmp_path, may_hold_run=True)).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "config.toml"]


def test_metrics_of_epochs_that_are_made_again_go(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    for number in (1, 2, 3):
        run.add_epoch(epoch(number))
    run.save(Snapshot(2, 5, {"params": np.zeros(2)}), 25)
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tr')  # killed while it wrote
    start = find_start("auto", tmp_path, pytest.fail)
    run = opened(tmp_path, [], start)
    run.close()
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2]


def test_a_full_disk_costs_what_can_not_be_written_and_no_more(small_disk: Path) -> None:
    complaints: list[str] = []
    run = opened(small_disk / "run", complaints)
    run.add_epoch(epoch(1))
    run.save(Snapshot(1, 0, {"params": np.zeros(100)}), 10)
    assert "Go on with --resume auto" in run.how_to_go_on()
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    run.add_epoch(epoch(2))
    for number in range(3, 40):  # a page or so is left in the last file
        run.add_epoch(epoch(number))
    run.save(Snapshot(2, 0, {"params": np.zeros(100)}), 20)
    assert "could not be written: No space left" in run.how_to_go_on()
    assert "can't write a checkpoint" in complaints[-1]
    assert any("metrics.jsonl: can't write: No space left" in line for line in complaints)
    with pytest.raises(InputError, match=r"model\.npz: can't write: No space left"):
        run.finish(model())
    written = lines(small_disk / "run")  # whole lines all
    assert [line["epoch"] for line in written] == list(range(1, len(written) + 1))
    found = find_start("auto", small_disk / "run", pytest.fail).snapshot
    assert found is not None
    assert found.epoch == 1

    filler.unlink()
    complaints.clear()
    run.save(Snapshot(3, 0, {"params": np.zeros(100)}), 30)
    run.finish(model())
    run.close()
    assert complaints == []
    assert [line["epoch"] for line in lines(small_disk / "run")] == list(range(1, 40))
    assert not list((small_disk / "run").rglob(".*"))
