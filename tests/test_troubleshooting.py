"""The messages of docs/troubleshooting.md: each is one that the source can print, and common ones are provoked."""

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from jobs import Job, mpirun, run_job, train
from printable import CHECKOUT, is_printable, one_space, source_texts, texts
from several import run_several
from tables import classified_rows, write_csv

from launch import flavours
from launch.errors import LaunchError

PAGE = (CHECKOUT / "docs" / "troubleshooting.md").read_text()
MESSAGES = [
    line for block in re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
KINDS = ("error: ", "warning: ", "note: ", "PASS ", "WARN ", "FAIL ")
LEAST = 50  # messages of a page that is worth to be searched


def test_the_page_has_messages() -> None:
    assert len(MESSAGES) == len(set(MESSAGES)) >= LEAST
    assert [line for line in MESSAGES if not line.startswith(KINDS)] == []


@pytest.mark.parametrize("message", MESSAGES)
def test_the_source_can_print_a_message(message: str) -> None:
    assert is_printable(message, source_texts())
    *_, longest = sorted(re.findall(r"(?<!\w)[a-z]+(?!\w)", message), key=len)
    forged = re.sub(rf"(?<!\w){longest}(?!\w)", f"un{longest}", message)
    assert not is_printable(forged, source_texts()), "a message that the source can't print is not found out"


SOURCE = '''
"""A docstring is not printed."""
def fail(path, rows, what, more):
    what += f"; leave the column out with --drop {path}"
    tell(f"error: {what}")
    raise Error(f"{path}:  {rows} row{'s' * (rows > 1)} of " + f"{path!r} are wrong")
'''


@pytest.mark.parametrize(
    ("line", "printable"),
    [
        ("error: …: … rows of '…' are wrong", True),
        ("error: …:   … row of … are wrong", True),
        ("error: …", True),
        ("error: …: … rows of '…' are", False),
        ("error: …: … rows of '…' are wrong; mend them", False),
        ("error: …: … row of … is wrong", False),
        ("error: …: rows of … are wrong", False),
        ("error: A docstring is not printed.", False),
        ("error: ; leave the column out with --drop …", True),
        ("error: …; leave the column out with --drop …", False),
    ],
)
def test_what_is_printable(line: str, printable: bool) -> None:
    assert is_printable(line, [*texts(ast.parse(SOURCE))]) is printable


class Case(NamedTuple):
    """A command that ends with a message of the page."""

    message: str
    """Words of it that no other message has."""
    arguments: str
    files: Callable[[Path], object] = lambda folder: None
    status: int = 2


def text(name: str, *lines: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text("\n".join(lines) + "\n")


def table(column: str = "x", value: object = 1) -> Callable[[Path], object]:
    """The table t.csv of 40 rows, one of which has this value in this column."""
    rows = [{"label": n % 2, "x": n / 8, "y": 40 - n} for n in range(40)]
    rows[7][column] = value  # type: ignore[assignment]
    return text("t.csv", "label,x,y", *(",".join(map(str, row.values())) for row in rows))


def dates(folder: Path) -> None:
    text("t.csv", "label,day", *(f"{n % 2},2024-01-{n + 1:02}" for n in range(20)))(folder)


def names(folder: Path) -> None:
    text("t.csv", "label,name", *(f"{n % 2},person {n}!" for n in range(20)))(folder)


def measurements(folder: Path) -> None:
    text("t.csv", "x,y", *(f"{(n % 7) / 8},{n * n}" for n in range(20)))(folder)


def pair_of_parts(folder: Path) -> None:
    text("part-1.csv", "label,x", "0,1", "1,2")(folder)
    text("part-2.csv", "label,z", "0,1", "1,2")(folder)


TRAINING = [
    Case("no such file or folder; --data", "--data nothing.csv"),
    Case("unknown kind of file", "--data t.xls", text("t.xls", "a")),
    Case("no file fits this pattern", "--data parts-*.csv"),
    Case("the file is empty; a header line", "--data t.csv", lambda folder: (folder / "t.csv").touch()),
    Case("has a header line but no rows", "--data t.csv", text("t.csv", "label,x")),
    Case("its first line holds numbers", "--data t.csv", text("t.csv", "1,2", "0,3")),
    Case("has one column; a label", "--data t.csv", text("t.csv", "label", "1", "0")),
    Case("more fields than its header line", "--data t.csv", text("t.csv", "label,x", "1,2,3", "0,3,4")),
    Case("not a text file in …", "--data t.csv", lambda folder: (folder / "t.csv").write_bytes(b"label,x\xe4\n1,2\n")),
    Case("line … holds a NUL", "--data t.csv", text("t.csv", "label,x", "1,\0")),
    Case("cut short or damaged", "--data t.csv.gz", text("t.csv.gz", "label")),
    Case("parts need the same columns", "--data part-*.csv", pair_of_parts),
    Case("a value is missing; correct or drop", "--data t.csv", table(value="")),
    Case("column '…': the label is missing", "--data t.csv", table(column="label", value="")),
    Case("'…' is not a number; correct", "--data t.csv", table(value="many")),
    Case("is a date, and no number", "--data t.csv", dates),
    Case("is text, of which there are", "--data t.csv", names),
    Case("no label column '…'", "--data t.csv --label-column species", table()),
    Case("has fractions, as measurements", "--data t.csv", measurements),
    Case("has another value in each row", "--data t.csv", text("t.csv", "id,y", *(f"{n},{n % 3}" for n in range(9)))),
    Case("which is no class; predict", "--data t.csv --label-column x", measurements),
    Case(
        "different numbers in … rows: predict", "--data t.csv", text("t.csv", "label,x", *(f"{n},1" for n in range(99)))
    ),
    Case("at least two classes are needed", "--data t.csv", text("t.csv", "label,x", "1,2", "1,3")),
    Case("…; --help lists all options", "--epoch 3"),
    Case("unknown key '…'", "--config c.toml", text("c.toml", "epoch = 3")),
    Case("with --batch-size … the last has", "--data t.csv --batch-norm --batch-size 31", table()),
    Case("--resume auto: give the --out", "--resume auto"),
    Case("and there is no checkpoint", "--resume auto --out new --override lr=0.1"),
    Case("without the run.json of a run", "--out .", text("mine.txt", "mine")),
    Case("error: the loss is not a finite number in", "--data t.csv --lr 1e30 --epochs 3 --out new", table(), 1),
    Case("always naming the largest class gives", "--data t.csv --lr 1e-9 --epochs 3 --out new", table(), 0),
    Case("try --scale standard", "--data t.csv --scale none --epochs 1 --out new", table(value=99999), 0),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """How each of the commands of training ends."""
    commands = {}
    for case in TRAINING:
        folder = tmp_path_factory.mktemp("case")
        case.files(folder)
        commands[case.message] = folder, case.arguments.split()
    return run_several("ddp_numpy.train", commands)


def is_said(message: str, err: str) -> bool:
    """Whether some line is the one message of the page that is this, or has these words."""
    (whole,) = [message] if message in MESSAGES else [line for line in MESSAGES if message in line]
    pattern = re.escape(one_space(whole)).replace("…", ".+?")
    return any(re.fullmatch(pattern, one_space(line)) for line in err.splitlines())


@pytest.mark.parametrize("case", TRAINING, ids=lambda case: case.message)
def test_a_training_says_what_the_page_says(case: Case, trained: dict[str, Job]) -> None:
    job = trained[case.message]
    assert (job.status, is_said(case.message, job.err)) == (case.status, True), job


AFTER_A_RUN = {
    "train": {
        "error: …: can't go on with other settings: --… was …, now …": "--out run --resume auto --seed 2",
        "(--override …=… changes it)": "--out run --resume auto --lr 0.5",
        "SHA-256 of the training rows was": "--out run --resume auto --data other_rows.csv",
        "is in epoch … already": "--out run --resume auto --epochs 1",
        "holds … of another run": "--out run",
        "has no checkpoints to go on from": "--resume empty",
        "no checkpoint there is whole": "--out damaged --resume auto",
        "taking the one before it": "--out damaged --resume auto",
        "none of the classes to train on": "--data t.csv --valid other_classes.csv --out new",
    },
    "predict": {
        "has no column '…', which": "--weights run --data other_columns.csv",
        "a folder without a model.npz": "--weights empty --data t.csv",
    },
}


@pytest.fixture(scope="module")
def after_a_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """How each of these commands ends in a folder that has a run."""
    folder = tmp_path_factory.mktemp("run")
    X, y = classified_rows(80)
    write_csv(folder / "t.csv", X, y)
    write_csv(folder / "other_rows.csv", 255 - X, y)
    write_csv(folder / "other_columns.csv", X[:, 1:], y)
    write_csv(folder / "other_classes.csv", X, np.where(y == 3, 9, y))
    options = ("--data", "t.csv", "--scale", "divide:255", "--epochs", "2", "--quiet")
    job = train(None, *options, "--out", "run", cwd=folder)
    assert job.status == 0, job
    (folder / "empty").mkdir()
    (folder / "damaged" / "checkpoints").mkdir(parents=True)
    (folder / "damaged" / "checkpoints" / "step-0000000001.npz").write_bytes(b"no checkpoint")
    jobs: dict[str, Job] = {}
    for name, commands in AFTER_A_RUN.items():
        split = {message: (folder, arguments.split()) for message, arguments in commands.items()}
        jobs |= run_several(f"ddp_numpy.{name}", split)
    return jobs


@pytest.mark.parametrize("message", [message for commands in AFTER_A_RUN.values() for message in commands])
def test_a_command_after_a_run_says_what_the_page_says(message: str, after_a_run: dict[str, Job]) -> None:
    job = after_a_run[message]
    assert (job.status, is_said(message, job.err)) == (2, True), job


@pytest.mark.parametrize(
    ("message", "command"),
    [
        ("but the hosts have … slots", "run -n 3 --hosts a:1,b:1"),
        ("is not a host and its slots", "run --hosts a:b:c"),
        ("--hosts and --hostfile", "run --hosts a --hostfile b"),
        ("lower -n, or name more hosts", "run -n 100000"),
        ("no module named", "run -n 1 -m no_such"),
        ("there is no such script here", "run -n 1 none.py"),
        ("give the job an --out", "run -n 1 --max-restarts 2"),
        ("is not minutes, MM:SS", "sbatch --time soon"),
        ("is an option of sbatch", "sbatch --time 10 --gres=gpu:1"),
    ],
)
def test_the_launcher_says_what_the_page_says(message: str, command: str, tmp_path: Path) -> None:
    mpirun()
    job = run_job(None, "-m", "launch", *command.split(), cwd=tmp_path)
    assert (job.status, is_said(message, job.err)) == (2, True), job


def test_without_an_mpirun_the_launcher_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flavours.shutil, "which", lambda name, path=None: None)
    for wanted, message in (("auto", "no mpirun beside this Python"), ("srun", "--mpi srun needs Slurm")):
        with pytest.raises(LaunchError) as error:
            flavours.find(wanted)
        assert is_said(message, f"error: {error.value.message}")


@pytest.mark.parametrize(
    ("message", "env"),
    [
        ("but mpi4py uses …", {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0"}),
        ("is no number of processes", {"PMI_SIZE": "two"}),
    ],
)
def test_a_process_with_another_mpirun_says_what_the_page_says(
    message: str, env: dict[str, str], tmp_path: Path
) -> None:
    mpirun()
    job = run_job(None, "-m", "ddp_numpy.train", cwd=tmp_path, env=env)
    assert (job.status, is_said(message, job.err)) == (2, True), job


def test_ranks_without_rows_are_told_of(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(80))
    job = train(3, "--epochs", "1", "--batch-size", "2", "--data", "t.csv", cwd=tmp_path)
    assert (job.status, is_said("is cut into one row a rank", job.err)) == (0, True), job
