"""Ranks that reach the end of their program at different times, or where the others don't."""

import re
import socket
import sys
from pathlib import Path

import pytest
from jobs import Job, openmpi_python, run_job
from tables import classified_rows, write_known_csv

HERE = Path(__file__).parent
HOST = socket.gethostname()
SECONDS = 30  # a job that hangs takes longer


@pytest.mark.parametrize(
    ("stop", "options", "status"),
    [
        ("", (), 0),
        ("SIGUSR1", (), 75),
        ("", ("--checkpoint-every", "9", "steps", "--keep", "all"), 0),  # the disk lets each rank wait
    ],
)
def test_a_slow_disk_is_no_stall(stop: str, options: tuple[str, ...], status: int, tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(100))
    words = ("--data", "t.csv", "--epochs", "1", "--batch-size", "8", "--out", "run", "--stall-timeout", "1")
    job = run_job(2, HERE / "slow_disk.py", "1.6", *words, *options, cwd=tmp_path, env={"STOP": stop}, timeout=SECONDS)
    assert job.status == status, job.err
    assert "no sign of life" not in job.err
    assert list((tmp_path / "run" / "checkpoints").glob("step-*.npz"))
    assert (tmp_path / "run" / "model.npz").exists() == (status == 0)


# What every script below begins with. `fit` trains a small model; a script may iterate over it on some ranks alone.
BEGIN = """
import sys, threading, time
import numpy as np
from ddp_numpy import SGD, Dataset, Dense, Layer, ReLU, Scale, Sequential, Trainer, world
comm = world(stall_timeout=2)
data = Dataset(np.arange(2400, dtype=np.uint8).reshape(200, 12), np.arange(200) % 4, 4, Scale(255.0))
def fit():
    return Trainer(Sequential(Dense(8), ReLU(), Dense(4)), SGD(0.1), comm, batch_size=8).fit(data, data, 2)
"""
LEFT = rf"^error: ranks? [12] on {HOST}(, 2 on {HOST})? left, and rank 0 on {HOST} still waited: do all ranks make"
LATE = rf"^error: rank 1 on {HOST} kept the others waiting for 2 s in training; if that may take so long, raise the "
SCRIPTS = {
    "a message": (
        "if comm.rank == 1: sys.exit('no data here')\nlist(fit())",
        1,
        rf"^no data here\nerror: rank 1 on {HOST} left with status 1, and ranks? .* still waited\n",
    ),
    "a status, in training": (
        "for epoch in fit():\n    if comm.rank == 1: sys.exit(7)",
        7,
        rf"^error: rank 1 on {HOST} left with status 7, and ranks? .* still waited\n",
    ),
    "fit on one rank": ("if comm.rank == 0: list(fit())", 1, LEFT),
    "never at fit": (
        "if comm.rank == 1:\n    while True: time.sleep(1)\nlist(fit())",
        1,
        LATE,
    ),
    "in a layer's sum": (
        "class Stuck(Layer):\n"
        "    joins_rows = True\n"
        "    def forward(self, X, context):\n"
        "        while comm.rank == 1: time.sleep(1)\n"
        "        context.sum_rows(X.sum(axis=0))\n"
        "list(Trainer(Sequential(Stuck(), Dense(4)), SGD(0.1), comm).fit(data, data, 1))",
        1,
        LATE,
    ),
    "in a thread": (
        "def work():\n    if comm.rank == 1: raise ValueError('boom')\n    list(fit())\n"
        "thread = threading.Thread(target=work); thread.start(); thread.join()",
        1,
        rf"^rank 1 on {HOST} failed:\nTraceback (.*\n)*ValueError: boom$",
    ),
}


def run_script(name: str, tmp_path: Path, python: str | Path = sys.executable) -> Job:
    (tmp_path / "script.py").write_text(BEGIN + SCRIPTS[name][0])
    if python == sys.executable:
        return run_job(3, "script.py", cwd=tmp_path, timeout=SECONDS)
    (tmp_path / "script.py").rename(tmp_path / "a_script.py")
    return run_job(None, "-m", "launch", "run", "-n", "3", "-m", "a_script", cwd=tmp_path, python=python)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_rank_that_others_wait_for_in_vain_ends_all(name: str, tmp_path: Path) -> None:
    job = run_script(name, tmp_path)
    assert job.status == SCRIPTS[name][1], job.err
    assert re.search(SCRIPTS[name][2], job.err, re.MULTILINE), job.err
    if name == "fit on one rank":
        assert f"rank 0 on {HOST} stands here:" in job.err
        assert "in prepare" in job.err or "in fit" in job.err or "in __init__" in job.err


def test_the_launcher_takes_no_status_for_the_number_of_a_signal(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(BEGIN + SCRIPTS["a status, in training"][0])  # 7 is SIGBUS, too
    job = run_job(None, "-m", "launch", "run", "-n", "3", "script.py", cwd=tmp_path)
    assert job.status == 7, job.err
    assert job.error_lines[0].startswith("error: rank 1 on ")
    assert len(job.error_lines) == 1, job.err


@pytest.mark.parametrize("name", ["a status, in training", "in a thread"])
def test_under_open_mpi(name: str, tmp_path: Path) -> None:
    _, status, words = SCRIPTS[name]
    job = run_script(name, tmp_path, openmpi_python())
    assert job.status == status, job.err
    own = re.sub(rf"^rank \d on {HOST}: ", "", job.err, flags=re.MULTILINE)  # what the launcher puts in front
    assert re.search(words, own, re.MULTILINE), job.err


def test_a_host_whose_name_has_no_address_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import os, socket\nfrom ddp_numpy.cli import run\nfrom ddp_numpy.train import main\n"
        "if os.environ['PMI_RANK'] == '0': socket.gethostname = lambda: 'no-such-host.invalid'\nrun(main)\n"
    )
    job = run_job(2, "train.py", "--epochs", "1", "--quiet", cwd=tmp_path, timeout=SECONDS)
    words = f"warning: rank 1 on {HOST} can't reach rank 0 by UDP, and won't be missed when stuck\n"
    assert (job.status, job.err) == (0, words)


# What may look like a rank that does not come, and is none.
FINE = """
def late(rank): time.sleep(1.4 * (comm.rank == rank))
late(0)
comm.agree(None)  # while rank 0 reads its data, for example
for epoch in fit():
    with comm.unhurried():
        late(epoch.number)
next(fit())
late(2)
comm.agree(None)
late(1)
sys.exit(3)
"""


def test_ranks_may_take_their_time(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(BEGIN.replace("stall_timeout=2", "stall_timeout=1") + FINE)
    job = run_job(3, "script.py", cwd=tmp_path, timeout=SECONDS)
    assert (job.status, job.out, job.err) == (3, "", "")
