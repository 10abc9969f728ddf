import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from run_folders import contents, epoch, lines, model, opened

from ddp_numpy import InputError
from ddp_numpy.runs.folder import RunFolder
from ddp_numpy.runs.marker import Run, read_run
from ddp_numpy.runs.resume import Start, find_start
from ddp_numpy.runs.snapshot import Snapshot
from ddp_numpy.settings import Settings


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def the_run(folder: Path) -> Run:
    run = read_run(folder)
    assert run is not None
    return run


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob(".*")]


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
    before = contents(tmp_path)
    with pytest.raises(InputError, match=r"holds model\.npz of another run.*--resume auto"):
        opened(tmp_path, [])
    assert contents(tmp_path) == before


def test_a_run_that_died_before_its_first_checkpoint_may_begin_again(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    run.add_epoch(epoch(1))
    run.close()
    told: list[str] = []
    opened(tmp_path, told).close()
    assert lines(tmp_path) == []
    (aside,) = tmp_path.glob("abandoned-*")
    assert [line["epoch"] for line in lines(aside)] == [1]
    assert f"{aside} keeps the later checkpoints (0) and lines of metrics (1)" in told[0]


def test_a_folder_that_can_not_be_opened_is_left_unlocked(tmp_path: Path) -> None:
    opened(tmp_path, []).close()
    (tmp_path / "config.toml").unlink()
    (tmp_path / "checkpoints").rmdir()
    (tmp_path / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(InputError, match="checkpoints: a link, or no regular folder; remove it"):
        opened(tmp_path, [], Start(tmp_path, may_hold_run=True))
    assert not hidden(tmp_path)


def test_only_temporary_files_of_this_run_go(tmp_path: Path) -> None:
    opened(tmp_path / "run", []).close()
    owner = the_run(tmp_path / "run").owner
    names = (f".ddp_numpy-{owner}-01234567.tmp", ".ddp_numpy-run_0123456789abcdef-01234567.tmp", ".notes.tmp", ".lock")
    for folder in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        for name in names:
            (folder / name).write_text("half")
    opened(tmp_path / "run", [], Start(tmp_path / "run", may_hold_run=True)).close()
    assert sorted(hidden(tmp_path / "run")) == sorted(names[1:] * 2)


def test_what_a_run_leaves_that_was_killed_before_it_marked_its_folder(tmp_path: Path) -> None:
    (tmp_path / ".ddp_numpy.lock").write_text("process 1 on a machine that has lost power")
    (tmp_path / ".ddp_numpy-run_0123456789abcdef-01234567.tmp").write_text('{"format": "ddp_nu')
    opened(tmp_path, []).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "config.toml", "run.json"]


@pytest.mark.parametrize("name", ["config.toml", ".lock", ".notes.tmp", "run.json", "checkpoints/step-0000000001.npz"])
@pytest.mark.parametrize("resume", [None, "auto"])
def test_nothing_is_written_to_a_folder_that_is_not_a_runs(
    name: str, resume: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("{}")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    for out in (tmp_path, Path("."), Path("..", tmp_path.name)):
        with pytest.raises(InputError, match=r"not empty, and without|damaged, or not of this|no checkpoint.*is whole"):
            find_start(resume, out, lambda _: None)
        with pytest.raises(InputError, match=r"not empty, and without|damaged, or not of this"):
            opened(out, [])
    assert contents(tmp_path) == before


def test_an_empty_folder_by_any_name_becomes_a_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    opened(Path("."), []).close()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    opened(tmp_path / "link", []).close()
    for name in ("x" * 250, "two\nlines \x1b[31m", "\udcff", "-n"):
        run = opened(Path(name), [])
        run.finish(model())
        run.close()
        assert find_start("auto", Path(name), pytest.fail) == Start(Path(name), may_hold_run=True)
    assert not hidden(tmp_path)


@pytest.mark.parametrize("name", ["run.json", "config.toml", "metrics.jsonl", "model.npz", "checkpoints"])
@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
def test_a_link_in_a_folder_of_a_strangers_is_not_followed(name: str, target: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    opened(folder, []).close()
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes((folder / "run.json").read_bytes() if name == "run.json" else b"years of work")
    if name == "checkpoints":
        (folder / name).rmdir()
    else:
        (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / target)
    before = contents(tmp_path)
    with pytest.raises(InputError, match=f"{name}: (a link, or no regular|not a regular)|not empty, and without"):
        opened(folder, [], Start(folder, may_hold_run=True))
    assert contents(tmp_path) == before


def test_metrics_are_not_appended_through_a_link(tmp_path: Path) -> None:
    complaints: list[str] = []
    run = opened(tmp_path / "run", complaints)
    (tmp_path / "precious").write_text("years of work")
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "precious")
    run.add_epoch(epoch(1))
    run.close()
    assert (tmp_path / "precious").read_text() == "years of work"
    assert "metrics.jsonl: can't write" in complaints[0]


@pytest.mark.parametrize("mode", [0o000, 0o555, 0o300])
@pytest.mark.parametrize("holds_run", [False, True])
def test_a_folder_that_this_user_may_not_read_or_write(mode: int, holds_run: bool, public_folder: Path) -> None:
    folder, me = public_folder / "run", os.geteuid()
    folder.mkdir()
    if holds_run:
        opened(folder, []).close()
    before = contents(folder)
    folder.chmod(mode)
    try:
        if me == 0:
            os.seteuid(65534)  # nobody
        with pytest.raises(InputError, match=r"run.*: Permission denied"):
            opened(folder, [], find_start("auto", folder, pytest.fail))
    finally:
        os.seteuid(me)
        folder.chmod(0o700)
    assert contents(folder) == before


def test_a_file_system_that_is_read_only(small_disk: Path) -> None:
    opened(small_disk / "run", []).close()
    before = contents(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for folder, start in (("new", None), ("run", Start(small_disk / "run", may_hold_run=True))):
        with pytest.raises(InputError, match=f"{folder}: can't write there: Read-only file system"):
            opened(small_disk / folder, [], start)
    assert contents(small_disk) == before


def test_each_start_is_noted(tmp_path: Path) -> None:
    for number in (1, 2):
        RunFolder(Start(tmp_path, may_hold_run=True), Settings(), {}, {"ranks": number}, 0, pytest.fail).close()
    first, second = the_run(tmp_path).starts
    assert (first, second) == ({"ranks": 1}, {"ranks": 2})
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["format"] == "ddp_numpy run 1"


def test_any_damage_to_run_json_is_one_line_and_changes_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    circumstances = {"ranks": 2, "hosts": ["a"], "mpi": None, "versions": {"numpy": "2.0"}}
    RunFolder(Start(tmp_path), Settings(), {}, circumstances, 0, pytest.fail).close()
    path = tmp_path / "run.json"
    whole = path.read_bytes()
    damaged = [whole[:length] for length in range(0, len(whole) - 2, 5)]
    for _ in range(400):
        changed = bytearray(whole)
        for position in rng.integers(len(whole), size=rng.integers(1, 4)):
            changed[position] = rng.integers(256)
        damaged.append(bytes(changed))
    damaged += [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"\xff\xfe", b"null", b"[]", b'"text"', b"{}"]
    good = json.loads(whole)
    for name, value in (
        ("format", None), ("format", 1), ("format", ["ddp_numpy run 1"]), ("format", "another program"),
        ("id", None), ("id", 1), ("id", "../../../etc"), ("id", "*" * 16), ("id", "0123456789abcdef\n"),
        ("starts", None), ("starts", 1), ("starts", "text"), ("starts", [1]), ("starts", ["ab"]),
    ):  # fmt: skip
        damaged.append(json.dumps({**good, name: value}).encode())
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        before = contents(tmp_path)
        try:
            find_start("auto", tmp_path, pytest.fail)  # a changed figure of a start is none of its business
        except InputError as error:
            refused += 1
            assert str(error).startswith(f"{path}: ")  # noqa: PT017
            with pytest.raises(InputError):
                opened(tmp_path, [], Start(tmp_path, may_hold_run=True))
        else:
            opened(tmp_path, [], Start(tmp_path, may_hold_run=True)).close()
            continue
        assert contents(tmp_path) == before
    assert refused > len(damaged) / 2
    path.write_bytes(whole.replace(b"run 1", b"run 2"))
    with pytest.raises(InputError, match=r"has the format 'ddp_numpy run 2'; this version reads 'ddp_numpy run 1'"):
        find_start("auto", tmp_path, pytest.fail)


def test_a_run_whose_run_json_is_lost_is_resumed_by_its_checkpoints(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    run.save(Snapshot(2, 5, {"params": np.zeros(2)}), 25)
    run.close()
    (tmp_path / "run.json").write_text("torn")
    with pytest.raises(InputError, match=r"run\.json: damaged.*remove the file, if this is a run that has checkpoints"):
        find_start("auto", tmp_path, pytest.fail)
    (tmp_path / "run.json").unlink()
    with pytest.raises(InputError, match="not empty, and without"):
        find_start(None, tmp_path, pytest.fail)
    for resume, out in (("auto", tmp_path), (str(tmp_path), None), (str(tmp_path), tmp_path)):
        start = find_start(resume, out, pytest.fail)
        assert (start.folder, start.may_hold_run, start.unmarked) == (tmp_path, True, True)
    opened(tmp_path, [], start).close()
    assert read_run(tmp_path) is not None


def test_metrics_of_epochs_that_are_made_again_go(tmp_path: Path) -> None:
    run = opened(tmp_path, [])
    for number in (1, 2, 3):
        run.add_epoch(epoch(number))
    run.save(Snapshot(2, 5, {"params": np.zeros(2)}), 25)
    run.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 4, "tr')  # killed while it wrote
    start = find_start("auto", tmp_path, pytest.fail)
    complaints: list[str] = []
    run = opened(tmp_path, complaints, start)
    run.close()
    assert [line["epoch"] for line in lines(tmp_path)] == [1, 2]
    (aside,) = tmp_path.glob("abandoned-*")
    assert [line["epoch"] for line in lines(aside)] == [3]
    assert f"{aside} keeps" in complaints[0]


def test_a_folder_that_is_removed_while_the_run_writes_to_it(tmp_path: Path) -> None:
    complaints: list[str] = []
    run = opened(tmp_path / "run", complaints)
    shutil.rmtree(tmp_path / "run")
    run.add_epoch(epoch(1))
    run.save(Snapshot(1, 0, {"params": np.zeros(2)}), 10)
    assert run.how_to_go_on() == "Its last checkpoint could not be written: No such file or directory"
    with pytest.raises(InputError, match=r"model\.npz: can't write: No such file or directory"):
        run.finish(model())
    run.close()
    assert len(complaints) == 2


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
