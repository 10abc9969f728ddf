"""Every mistake of the user's: one line, exit status 2, everybody gone. On one rank and on several."""

import gzip
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job, train
from several import train_several
from tables import classified_rows, write_known_csv

from ddp_numpy.runs.snapshot import Snapshot, write_snapshot

HERE = Path(__file__).parent
GOOD = "label,a,b\n" + "0,1,2\n1,2,1\n" * 20


def csv(text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "t.csv").write_text(text)
        return ["--data", "t.csv"]

    return prepare


def options(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: [*csv(GOOD)(folder), *arguments]


def toml(text: str) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "run.toml").write_text(text)
        return [*csv(GOOD)(folder), "--config", "run.toml"]

    return prepare


def toml_bytes(data: bytes) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        (folder / "run.toml").write_bytes(data)
        return [*csv(GOOD)(folder), "--config", "run.toml"]

    return prepare


def fifo(folder: Path) -> list[str]:
    os.mkfifo(folder / "fifo")
    return [*csv(GOOD)(folder), "--config", "fifo"]


def poor_checkpoint(folder: Path) -> list[str]:
    with open(folder / "c.npz", "wb") as file:
        write_snapshot(file, Snapshot(1, 0, {"params": np.zeros(3)}))
    return [*csv(GOOD)(folder), "--resume", "c.npz", "--out", "new"]


def truncated_gzip(folder: Path) -> list[str]:
    (folder / "t.csv.gz").write_bytes(gzip.compress(GOOD.encode() * 9)[:-20])
    return ["--data", "t.csv.gz"]


def idx(images: bytes) -> Callable[[Path], list[str]]:
    def prepare(folder: Path) -> list[str]:
        labels = struct.pack(">2I", 0x0801, 4) + bytes([0, 1, 0, 1])
        for split in ("train", "t10k"):
            (folder / f"{split}-images-idx3-ubyte").write_bytes(images)
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(labels)
        return ["--data", "."]

    return prepare


def unwritable(folder: Path) -> list[str]:
    (folder / "file").touch()
    return [*csv(GOOD)(folder), "--out", "file"]


def used_folder(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text('{"format": "ddp_numpy run 1", "id": "0123456789abcdef", "starts": []}')
    (folder / "out" / "model.npz").write_bytes(b"somebody's work")
    return [*csv(GOOD)(folder), "--out", "out"]


def linked_lock(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    (folder / "precious").write_bytes(b"somebody's work")
    (folder / "out" / ".ddp_numpy.lock").symlink_to(folder / "precious")
    return [*csv(GOOD)(folder), "--out", "out"]


def torn_run(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    (folder / "out" / "run.json").write_text('{"format": "ddp_num')
    return [*csv(GOOD)(folder), "--out", "out", "--resume", "auto"]


def bad_npz(folder: Path) -> list[str]:
    np.savez(folder / "t.npz", X=np.zeros((3, 2)))
    return ["--data", "t.npz"]


def npz(X: np.ndarray, y: np.ndarray, *changes: tuple[bytes, int, bytes]) -> Callable[[Path], list[str]]:
    """changes: (where, how many bytes behind it, the bytes that are put there)."""

    def prepare(folder: Path) -> list[str]:
        np.savez_compressed(folder / "t.npz", X=X, y=y)
        data = bytearray((folder / "t.npz").read_bytes())
        for find, behind, put in changes:
            start = data.index(find) + behind
            data[start : start + len(put)] = put
        (folder / "t.npz").write_bytes(data)
        return ["--data", "t.npz"]

    return prepare


def special(name: str, target: str | None = None) -> Callable[[Path], list[str]]:
    """A pipe, or a link to a device, where a file should be."""

    def prepare(folder: Path) -> list[str]:
        if name.endswith("-ubyte"):
            idx(b"")(folder)
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name) if target is None else (folder / name).symlink_to(target)
        return ["--data", "." if name.endswith("-ubyte") else name]

    return prepare


def no_text(folder: Path) -> list[str]:
    name = os.fsdecode(b"\xff.csv")
    (folder / name).write_text(GOOD + "1,x,2\n")
    return ["--data", name, "--label-column", "None"]


ROWS = np.zeros((2, 3)), np.arange(2)
DIRECTORY = b"PK\x01\x02"  # the beginning of what a zip file's directory says of its first member

MISTAKES: dict[str, tuple[Callable[[Path], list[str]], str]] = {
    "missing file": (lambda folder: ["--data", "gone.csv"], "gone.csv: no such file"),
    "empty file": (csv(""), "t.csv: the file is empty"),
    "no label column": (options("--label-column", "digit"), "t.csv: no label column 'digit'"),
    "text": (csv(GOOD + "1,x,2\n"), "t.csv: row 41, column 'a': 'x' is not a number"),
    "missing value": (csv(GOOD + "1,2,\n"), "t.csv: row 41, column 'b': a value is missing"),
    "infinite value": (csv(GOOD + "1,2,-inf\n"), "t.csv: row 41, column 'b': '-inf' is not a finite number"),
    "labels not whole": (csv(GOOD + "0.5,1,2\n"), "t.csv: row 41: label column 'label' is 0.5, which is no class"),
    "batch size 0": (options("--batch-size", "0"), "Invalid value for '--batch-size': 0 is not in the range x>=1"),
    "epochs -1": (options("--epochs", "-1"), "Invalid value for '--epochs'"),
    "lr nan": (options("--lr", "nan"), "Invalid value for '--lr': 'nan' is not a finite number"),
    "lr text": (options("--lr", "fast"), "Invalid value for '--lr': 'fast' is not a valid float"),
    "hidden": (options("--hidden", "12,-3"), "Invalid value for '--hidden': '12,-3' is not a list"),
    "unknown option": (options("--bath-size", "7"), "No such option"),
    "extra argument": (options("extra"), "Got unexpected extra argument"),
    "smoothness alone": (
        options("--augment-smoothness", "3"),
        "--augment-smoothness: needs an --augment-elastic above 0",
    ),
    "unknown key": (
        toml("batch = 64\n"),
        "run.toml: unknown key 'batch': is batch-size meant? python -m ddp_numpy.train --help shows all options",
    ),
    "wrong value": (toml("epochs = 2.5\n"), "run.toml: epochs: '2.5' is not a valid integer"),
    "wrong type": (toml("epochs = true\n"), "run.toml: epochs: 'True' is not a valid integer"),
    "no toml": (toml("epochs: 5\n"), "run.toml: not a TOML file"),
    "missing toml": (options("--config", "gone.toml"), "gone.toml: No such file or directory"),
    "truncated gzip": (truncated_gzip, "t.csv.gz: the file is cut short or damaged"),
    "idx magic": (idx(b"\0\0\x08\x01" + bytes(20)), "train-images-idx3-ubyte: not the IDX file it should be: magic"),
    "idx size": (idx(struct.pack(">4I", 0x0803, 4, 2, 2) + bytes(9)), "train-images-idx3-ubyte: wrong size"),
    "idx file missing": (lambda folder: ["--data", "."], "has no train-images-idx3-ubyte"),
    "npz without y": (bad_npz, "t.npz: has no array y"),
    "out is a file": (unwritable, "file: can't write there"),
    "out holds a run": (used_folder, "out: holds model.npz of another run"),
    "open quote": (csv(GOOD + '"1,1,2\n'), "t.csv: not a CSV file: "),
    "label column None": (options("--label-column", "None"), "t.csv: no label column 'None'"),
    "label column with escapes": (options("--label-column", "a\x1b[2J\n"), r"t.csv: no label column 'a\x1b[2J\n'"),
    "name that is no text": (no_text, ".csv' is not UTF-8 text, which config.toml needs"),
    "long name": (lambda folder: ["--data", "n" * 300 + ".csv"], "File name too long"),
    "one row of each label": (csv("label,a\n0,1\n1,2\n"), "t.csv: has one row of each label"),
    "pipe as csv": (special("pipe.csv"), "pipe.csv: not a regular file"),
    "pipe as csv.gz": (special("pipe.csv.gz"), "pipe.csv.gz: not a regular file"),
    "pipe as npz": (special("pipe.npz"), "pipe.npz: not a regular file"),
    "pipe as idx": (special("train-images-idx3-ubyte"), "train-images-idx3-ubyte: not a regular file"),
    "device as csv": (special("zero.csv", "/dev/zero"), "zero.csv: not a regular file"),
    "device as npz": (special("zero.npz", "/dev/zero"), "zero.npz: not a regular file"),
    "device as idx": (special("train-images-idx3-ubyte", "/dev/zero"), "train-images-idx3-ubyte: not a regular file"),
    "idx without pixels": (idx(struct.pack(">4I", 0x0803, 4, 0, 2)), "holds no pixels: 4 x 0 x 2 bytes"),
    "npz deflate": (
        npz(*ROWS, (b"X.npy", 30, b"\xff" * 20)),
        "t.npz: not a .npz file of plain arrays, or a damaged one",
    ),
    "npz compression": (
        npz(*ROWS, (DIRECTORY, 10, b"\x63")),
        "t.npz: not a .npz file of plain arrays, or a damaged one",
    ),
    "npz encrypted": (npz(*ROWS, (DIRECTORY, 8, b"\x01")), "t.npz: X.npy is encrypted"),
    "npz sizes": (
        npz(*ROWS, (DIRECTORY, 24, b"\xfe\xff\xff\xff")),
        "t.npz: X.npy does not have the size that its shape",
    ),
    "npz of objects": (npz(ROWS[0].astype(object), ROWS[1]), "t.npz: X.npy holds object, not plain values"),
    "npz of complex": (npz(ROWS[0].astype(complex), ROWS[1]), "t.npz: X holds complex128, not numbers"),
    "out is the user's folder": (options("--out", "."), ".: not empty, and without the run.json of a run"),
    "out is empty": (options("--out", ""), "Invalid value for '--out': '' is not a path; is the variable set"),
    "out is a link's lock": (linked_lock, "out/.ddp_numpy.lock: a link, and not a file of this package; remove it"),
    "run.json is torn": (torn_run, "out/run.json: damaged, or not of this package"),
    "toml list": (toml("epochs = [5]\n"), "run.toml: epochs: must be text, a number, true or false, not a list"),
    "toml table": (toml("[lr]\nx = 1\n"), "run.toml: lr: must be text, a number, true or false, not a dict"),
    "toml date": (toml("data = 1979-05-27\n"), "run.toml: data: must be text, a number, true or false, not a date"),
    "toml nested": (toml(f"epochs = {'[' * 5000}{']' * 5000}\n"), "run.toml: not a TOML file of options: it is nested"),
    "toml deep": (toml(f"epochs = {'[' * 400}{']' * 400}\n"), "run.toml: "),
    "toml NUL": (toml('out = "a\\u0000b"\n'), "run.toml: out: 'a\\x00b' has a NUL in it"),
    "toml twice": (toml("lr = 1\nlr = 2\n"), "run.toml: not a TOML file: Cannot overwrite a value"),
    "toml digits": (toml(f"seed = {'9' * 5000}\n"), "run.toml: not a TOML file: Exceeds the limit"),
    "toml hex": (toml(f"seed = 0x{'f' * 6000}\n"), "run.toml: seed: must not be a number of thousands of digits"),
    "toml not text": (toml_bytes(b"lr = \xff"), "run.toml: not a TOML file: 'utf-8' codec can't decode"),
    "toml 2 MB": (toml("#" * 2**21), "run.toml: has more than 1,048,576 bytes"),
    "toml folder": (options("--config", "."), ".: not a regular file"),
    "toml FIFO": (fifo, "fifo: not a regular file"),
    "valid-fraction nan": (options("--valid-fraction", "nan"), "'--valid-fraction': 'nan' is not a finite number"),
    "momentum nan": (options("--momentum", "nan"), "'--momentum': 'nan' is not a finite number"),
    "no such memory": (options("--hidden", "2000000000"), "10,000,000,002 parameters needs"),
    "micro-rows": (options("--reproducible", "--micro-rows", "1" + "0" * 12), "in micro-shards of 1,000,000,000,000"),
    "epochs 10^30": (options("--epochs", "1" + "0" * 30), "'--epochs': 1000000000000000000000000000000 is too large"),
    "keep 10^30": (options("--keep", "1" + "0" * 30), "is neither a whole number above 0 nor all"),
    "stall 1e300": (options("--stall-timeout", "1e300"), "'--stall-timeout': 1e+300 is not in the range"),
    "seed of 5,000 digits": (options("--seed", "9" * 5000), "is not a valid integer"),
    "checkpoint-every 10^30": (options("--checkpoint-every", "1" + "0" * 30, "steps"), "is too large"),
    "hidden with a gap": (options("--hidden", "1,,2"), "'1,,2' is not a list of whole numbers above 0"),
    "hidden of commas": (options("--hidden", "," * 5000), "is not a list of whole numbers above 0"),
    "digits of another script": (options("--hidden", "\u0663"), "is not a list of whole numbers above 0"),
    "lr of another script": (options("--lr", "\u0663"), "is not a number in the digits 0 to 9"),
    "not UTF-8": (options("--label-column", "caf\udce9"), "is not UTF-8 text, which config.toml needs"),
    "override of a seed": (options("--override", "seed=2"), "'seed=2' is not lr=value or momentum=value"),
    "hyperparameter of another": (
        options("--optimizer", "adam", "--momentum", "0.9"),
        "--momentum: adam does not have it; it has --lr, --beta1, --beta2, --epsilon, --weight-decay",
    ),
    "option of another schedule": (options("--power", "2"), "--power: --schedule constant does not have it"),
    "nesterov without momentum": (options("--nesterov"), "--nesterov: needs --optimizer sgd and a --momentum above 0"),
    "override without a run": (options("--override", "lr=2"), "--override changes an option of a run that is resumed"),
    "resume a poor checkpoint": (poor_checkpoint, "c.npz: not a run's checkpoint: it does not note options"),
}


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_one_line(job: Job, message: str) -> None:
    assert job.status == 2, job.err
    assert job.out == ""
    assert len(job.err.splitlines()) == 1, job.err
    assert job.err.startswith("error: ")
    assert message in job.err


@dataclass
class Mistaken:
    """How a job ended that had a mistake, and the files of its folder before and after."""

    job: Job
    before: dict[Path, bytes]
    after: dict[Path, bytes]


@pytest.fixture(scope="module", params=[None, 1, 3])
def mistaken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Mistaken]:
    """All mistakes, each in its folder, made by the same processes one after the other."""
    folders = {name: tmp_path_factory.mktemp("mistake") for name in MISTAKES}
    commands = {name: (folders[name], prepare(folders[name])) for name, (prepare, _) in MISTAKES.items()}
    before = {name: files(folder) for name, folder in folders.items()}
    jobs = train_several(request.param, commands)
    return {name: Mistaken(jobs[name], before[name], files(folders[name])) for name in MISTAKES}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_ends_in_one_line(name: str, mistaken: dict[str, Mistaken]) -> None:
    assert_one_line(mistaken[name].job, MISTAKES[name][1])
    assert mistaken[name].after == mistaken[name].before


# One mistake that is found before the ranks meet, one in the data, and one in the folder of the output.
@pytest.mark.parametrize("ranks", [None, 1, 3])
@pytest.mark.parametrize("name", ["lr text", "text", "out holds a run"])
def test_a_job_of_its_own_ends_by_a_mistake(name: str, ranks: int | None, tmp_path: Path) -> None:
    prepare, message = MISTAKES[name]
    arguments = prepare(tmp_path)
    before = files(tmp_path)
    assert_one_line(train(ranks, *arguments, cwd=tmp_path, timeout=30), message)
    assert files(tmp_path) == before


def test_a_checksum_mismatch_ends_in_one_line(tmp_path: Path) -> None:
    job = run_job(3, HERE / "wrong_checksum.py", cwd=tmp_path)
    assert job.status == 2
    assert len(job.error_lines) == 1
    assert "checksum mismatch" in job.error_lines[0]


@pytest.mark.parametrize("rank", [0, 2])
def test_an_exception_on_one_rank_ends_all(rank: int, tmp_path: Path) -> None:
    job = run_job(3, HERE / "one_rank_fails.py", str(rank), "unforeseen", cwd=tmp_path, timeout=20)
    assert job.status == 1
    assert f"rank {rank} on " in job.err
    assert "ZeroDivisionError" in job.err


def test_an_abort_that_does_not_end_the_rank_adds_no_second_traceback(tmp_path: Path) -> None:
    code = (
        "from types import SimpleNamespace\nimport sys\nfrom ddp_numpy import world\ncomm = world()\n"
        "if comm.rank == 0:\n"
        "    sys.excepthook.args[0]._comm = SimpleNamespace(Abort=lambda status: None)\n"
        "    raise ValueError('boom')\n"
        "comm.agree(None)\n"
    )
    job = run_job(2, "-c", code, cwd=tmp_path, timeout=20)
    assert job.status == 1
    assert job.err.count("Traceback") == 1, job.err
    assert "ValueError: boom" in job.err


@pytest.mark.parametrize("rank", [0, 2])
@pytest.mark.parametrize("agreed", ["agreed", "alone"])
def test_a_mistake_that_one_rank_meets_ends_all(rank: int, agreed: str, tmp_path: Path) -> None:
    job = run_job(3, HERE / "one_rank_fails.py", str(rank), agreed, cwd=tmp_path, timeout=20)
    assert job.status == 2
    assert len(job.error_lines) == 1
    assert job.error_lines[0].endswith("bad row")
    if rank or agreed == "alone":
        assert job.error_lines[0].startswith(f"error: rank {rank} on ")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("Trainer(Sequential(Dense(2)), SGD(), comm, batch_size=0)", "batch size 0: must be at least 1"),
        ("Trainer(Sequential(Dense(3)), SGD(), comm).prepare(data)", "the model maps (2,) to (3,), but the data has"),
        ("load_data('gone.csv', comm)", "gone.csv: no such file or folder"),
    ],
)
def test_a_mistake_in_a_script_ends_in_one_line(call: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import numpy as np\nfrom ddp_numpy import *\ncomm = world()\n"
        f"data = Dataset(np.zeros((4, 2), np.uint8), np.array([0, 1, 0, 1]), 2, Scale(255.0))\n{call}\n"
    )
    job = run_job(3, "script.py", cwd=tmp_path, timeout=20)
    assert (job.status, job.out) == (2, "")
    assert len(job.err.splitlines()) == 1, job.err
    assert job.err.startswith(f"error: {message}")


def test_ranks_started_with_different_options_follow_rank_0(tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(40))
    (tmp_path / "start.py").write_text(
        "import os, runpy, sys\n"
        "sys.argv = ['train', '--data', 't.csv', '--epochs', '2' if os.environ['PMI_RANK'] == '0' else '3']\n"
        "runpy.run_module('ddp_numpy.train', run_name='__main__')\n"
    )
    job = run_job(2, "start.py", cwd=tmp_path, timeout=20)
    assert job.status == 0, job.err
    assert "2 epochs of" in job.out


def test_a_usage_error_of_one_rank_ends_all(tmp_path: Path) -> None:
    (tmp_path / "start.py").write_text(
        "import os, runpy, sys\n"
        "sys.argv = ['train'] if os.environ['PMI_RANK'] == '0' else ['train', '--epochs', '0']\n"
        "runpy.run_module('ddp_numpy.train', run_name='__main__')\n"
    )
    job = run_job(2, "start.py", cwd=tmp_path, timeout=20)
    assert job.status == 2
    assert len(job.error_lines) == 1
    assert "rank 1 on " in job.error_lines[0]
    assert "'--epochs'" in job.error_lines[0]
