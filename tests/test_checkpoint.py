import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ddp_numpy import InputError
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot
from ddp_numpy.runs.store import CheckpointStore, newest_snapshot


def snapshot(step: int = 0) -> Snapshot:
    rng = np.random.default_rng(step)
    arrays = {"params": rng.normal(size=12).astype(np.float32), "optimizer.velocity": rng.normal(size=12)}
    return Snapshot(3, step, arrays, {"best": None, "options": {"batch-size": 7}})


def written(path: Path, step: int = 0) -> bytes:
    with open(path, "wb") as file:
        write_snapshot(file, snapshot(step))
    return path.read_bytes()


def same(a: Snapshot, b: Snapshot) -> bool:
    numbers = (a.epoch, a.step, a.facts) == (b.epoch, b.step, b.facts)
    equal = [np.array_equal(a.arrays[k], b.arrays[k]) and a.arrays[k].dtype == b.arrays[k].dtype for k in b.arrays]
    return numbers and a.arrays.keys() == b.arrays.keys() and all(equal)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    written(tmp_path / "c.npz", 5)
    assert same(read_snapshot(tmp_path / "c.npz"), snapshot(5))


def test_no_altered_or_torn_file_is_taken_for_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    data, found = written(path), 0
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x10]) + data[position + 1 :])
        try:
            assert same(read_snapshot(path), snapshot()), position  # a byte that no reader looks at, such as a date
        except InputError as error:
            assert str(path) in str(error)  # noqa: PT017
            found += 1
    assert found > 0.8 * len(data)
    for length in range(0, len(data), 7):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match=r"c\.npz: damaged"):
            read_snapshot(path)


def test_a_strangers_file_runs_no_code(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (tmp_path / "sprung",)

    np.savez(tmp_path / "c.npz", checkpoint=np.array([Trap()]), params=np.array([Trap()]))
    with pytest.raises(InputError, match="damaged, or not a checkpoint"):
        read_snapshot(tmp_path / "c.npz")
    assert not (tmp_path / "sprung").exists()


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    complaints: list[str] = []
    store = CheckpointStore(tmp_path, 2, "ours", complaints.append)
    for number in range(1, 6):
        store.save(number, snapshot(number), best=number == 2)
        store.flush()
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.npz", *(f"step-{n:010d}.npz" for n in (4, 5))]
    assert same(read_snapshot(tmp_path / "best.npz"), snapshot(2))
    path, newest = newest_snapshot(tmp_path, complaints.append) or (None, None)
    assert path == tmp_path / "step-0000000005.npz"
    assert newest is not None
    assert same(newest, snapshot(5))
    assert complaints == []


def test_a_run_that_went_back_keeps_what_it_writes_now(tmp_path: Path) -> None:
    (tmp_path / "step-0000000008.npz").write_bytes(b"damaged, and so passed over")
    written(tmp_path / "step-0000000009.npz")
    store = CheckpointStore(tmp_path, 1, "ours", pytest.fail)
    for number in (3, 4):
        store.save(number, snapshot(number))
        store.flush()
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"step-{n:010d}.npz" for n in (4, 8, 9)]


def test_saving_waits_for_no_disk_and_the_newest_gets_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = threading.Event()
    monkeypatch.setattr("ddp_numpy.runs.store.write_snapshot", lambda *a: (disk.wait(), write_snapshot(*a)))
    store = CheckpointStore(tmp_path, 9, "ours", pytest.fail)
    changing = snapshot()
    for number in range(1, 8):
        changing.arrays["params"][...] = number  # as training does, while the last is being written
        store.save(number, changing, best=number == 3)
    disk.set()
    store.close()
    numbers = {path.name: read_snapshot(path).arrays["params"][0] for path in tmp_path.iterdir()}
    assert numbers.pop("best.npz") == 3
    assert numbers["step-0000000007.npz"] == 7
    assert numbers.keys() <= {f"step-{n:010d}.npz" for n in (1, 2, 3, 7)}
    assert all(value == int(name[5:15]) for name, value in numbers.items())


def test_all_are_kept_however_slow_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = lambda *a: (time.sleep(0.05), write_snapshot(*a))  # noqa: E731
    monkeypatch.setattr("ddp_numpy.runs.store.write_snapshot", slow)
    store = CheckpointStore(tmp_path, None, "ours", pytest.fail)
    for number in range(1, 8):
        store.save(number, snapshot(number), best=number < 4)
    store.close()
    assert same(read_snapshot(tmp_path / "best.npz"), snapshot(3))
    for number in range(1, 8):
        assert same(read_snapshot(tmp_path / f"step-{number:010d}.npz"), snapshot(number))


def test_temporary_files_of_a_killed_writer_go(tmp_path: Path) -> None:
    for name in (".ddp_numpy-ours-01234567.tmp", ".ddp_numpy-theirs-01234567.tmp", ".secret.tmp"):
        (tmp_path / name).write_bytes(b"half")
    CheckpointStore(tmp_path, 2, "ours", pytest.fail).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".ddp_numpy-theirs-01234567.tmp", ".secret.tmp"]


def test_only_names_that_the_store_gives_are_counted(tmp_path: Path) -> None:
    written(tmp_path / "step-final.npz")
    written(tmp_path / "step-0000000001-good.npz")
    store = CheckpointStore(tmp_path, 1, "ours", pytest.fail)
    store.save(10**10, snapshot())
    store.flush()
    store.save(10**10 + 1, snapshot(1))
    store.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-0000000001-good.npz",
        "step-10000000001.npz",
        "step-final.npz",
    ]
    path, _ = newest_snapshot(tmp_path, pytest.fail) or (None, None)
    assert path == tmp_path / "step-10000000001.npz"


def test_the_best_is_taken_if_there_is_no_other(tmp_path: Path) -> None:
    written(tmp_path / "best.npz", 4)
    (tmp_path / "step-0000000009.npz").write_bytes(b"damaged")
    complaints: list[str] = []
    path, found = newest_snapshot(tmp_path, complaints.append) or (None, None)
    assert path == tmp_path / "best.npz"
    assert found is not None
    assert same(found, snapshot(4))
    assert len(complaints) == 1


@pytest.mark.parametrize("keep", [None, 2])
@pytest.mark.parametrize("deaf", [False, True])
def test_nothing_ends_the_writer(keep: int | None, deaf: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    complaints: list[str] = []

    def complain(text: str) -> None:
        complaints.append(text)
        if deaf:
            raise OSError("no space left for this message either")

    def fails(*_: object) -> None:
        raise MemoryError

    store = CheckpointStore(tmp_path, keep, "ours", complain)
    store.save(1, Snapshot(0, 1, {}, {"options": {1, 2}}))  # JSON can't hold a set
    store.flush()
    assert isinstance(store.error, TypeError)
    with monkeypatch.context() as patch:
        patch.setattr("ddp_numpy.runs.store.write_snapshot", fails)
        store.save(2, snapshot(2))
        store.flush()
    assert isinstance(store.error, MemoryError)
    assert [text.partition(": ")[2].partition(";")[0] for text in complaints] == [
        "Object of type set is not JSON serializable",
        "MemoryError",
    ]
    store.save(3, snapshot(3))
    store.flush()
    assert store.error is None
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000003.npz"]


def test_no_memory_for_a_copy_costs_one_checkpoint(tmp_path: Path) -> None:
    class Huge:
        def copy(self) -> None:
            raise MemoryError("Unable to allocate 8 EiB")

    complaints: list[str] = []
    store = CheckpointStore(tmp_path, 2, "ours", complaints.append)
    store.save(1, Snapshot(0, 1, {"params": Huge()}))  # type: ignore[dict-item]
    store.close()
    assert "Unable to allocate 8 EiB; training goes on" in complaints[0]
