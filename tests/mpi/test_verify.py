"""The certificate that the number of ranks doesn't change the result."""

import re
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job
from tables import classified_rows, write_known_csv

from ddp_numpy.verify import _compare

OPTIONS = ("--data", "t.csv", "--epochs", "2", "--batch-size", "50", "--lr", "0.1")


def verify(folder: Path, *options: str) -> Job:
    write_known_csv(folder / "t.csv", *classified_rows(331, features=50, classes=5))
    return run_job(None, "-m", "ddp_numpy.verify", *OPTIONS, *options, cwd=folder)


def test_reproducible_training_is_equal_to_the_last_bit(tmp_path: Path) -> None:
    job = verify(tmp_path, "--ranks", "1,2,3", "--reproducible")
    assert job.status == 0, job.err
    lines = re.findall(r"^(\d) ranks?  epoch (\d)  ([0-9a-f]{64})  equal$", job.out, re.MULTILINE)
    assert [line[:2] for line in lines] == [(r, e) for r in "123" for e in "12"]
    assert len({digest for _, _, digest in lines}) == 2, "one an epoch"
    assert job.out.splitlines()[-1] == "EQUAL TO THE LAST BIT on 1, 2, 3 ranks"


@pytest.mark.parametrize("scale", ["standard", "robust"])
def test_a_table_with_names_and_large_numbers_is_too(scale: str, tmp_path: Path) -> None:
    """Columns as people have them: scaled by statistics that all ranks must have alike, to the last bit."""
    X, y = classified_rows(331, features=6, classes=3)
    numbers = X * np.array([1e-3, 1.0, 1e4, 1.0, 1.0, 1.0]) + np.array([0.0, 0.0, 0.0, 1e9, 0.5, -7.0])
    numbers[::9, 2] = np.nan
    rows = [
        f"{'cab'[label]};{['small', 'large'][number % 2]};" + ";".join(str(x).replace(".", ",") for x in row.tolist())
        for number, (row, label) in enumerate(zip(numbers, y, strict=True))
    ]
    (tmp_path / "t.csv").write_text("\n".join(["class;" + ";".join("tuvwxyz"), *rows]))
    options = ("--data", "t.csv", "--scale", scale, "--missing", "mean", "--epochs", "2", "--batch-size", "50")
    job = run_job(None, "-m", "ddp_numpy.verify", "--ranks", "1,3", "--reproducible", *options, cwd=tmp_path)
    assert job.status == 0, job.err
    assert job.out.splitlines()[-1] == "EQUAL TO THE LAST BIT on 1, 3 ranks"


@pytest.mark.parametrize(
    ("dtype", "difference", "bound"),
    [("float32", r"\d\.\de-0[678]", r"4\.9e-03"), ("float64", r"\d\.\de-1[67]", r"1\.0e-12")],
)
def test_the_fast_way_is_equal_up_to_rounding(dtype: str, difference: str, bound: str, tmp_path: Path) -> None:
    job = verify(tmp_path, "--ranks", "1,3", "--dtype", dtype)
    assert job.status == 0, job.err
    found = rf"3 ranks  epoch 1  \w+  differs by {difference} of the largest weight, .* \(at most {bound} is rounding\)"
    assert re.search(found, job.out)
    assert job.out.splitlines()[-1] == "EQUAL UP TO ROUNDING on 1, 3 ranks"


@pytest.mark.parametrize("way", [(), ("--reproducible",)])
def test_a_difference_is_found_and_located(way: tuple[str, ...], tmp_path: Path) -> None:
    # Ranks that take other rows than they should: a wrong share is no rounding.
    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "if os.environ.get('PMI_SIZE') == '3':\n"
        "    import ddp_numpy.training.trainer as trainer\n"
        "    trainer.epoch_order = lambda rows, seed, epoch: __import__('numpy').arange(rows)\n"
    )
    write_known_csv(tmp_path / "t.csv", *classified_rows(331, features=50, classes=5))
    env = {"PYTHONPATH": str(tmp_path)}
    job = run_job(None, "-m", "ddp_numpy.verify", "--ranks", "1,3", *way, *OPTIONS, cwd=tmp_path, env=env)
    assert job.status == 1, job.err
    found = r"3 ranks  epoch 1  \w+  differs by .*, first in W of layer 1 \(Dense\), element \d+( \(at most .*)?$"
    assert re.search(found, job.out, re.MULTILINE)
    assert job.out.splitlines()[-1].startswith("DIFFERENT")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_means_all_bits(dtype: type) -> None:
    slices = {"W": slice(0, 2), "b": slice(2, 3)}
    one = np.array([0.0, 1.0, np.nan], dtype)
    assert _compare(one, one.copy(), slices) == (0.0, "equal")
    difference, words = _compare(np.array([0.0, -0.0, 2.0], dtype), np.array([0.0, 0.0, 2.0], dtype), slices)
    assert difference > 0
    assert words.endswith("first in W, element 1")
    difference, words = _compare(np.array([0.0, 0.0, 2.0], dtype), np.zeros(3, dtype), slices)
    assert difference == 2.0
    assert words.endswith("first in b, element 0")
    difference, _ = _compare(np.array([0.0, 0.0, np.nan], dtype), np.ones(3, dtype), slices)
    assert not difference <= 1e9, "not a number is beyond any bound"


def test_mistakes(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.py").touch()  # as if rank 0 wrote to another host's disk
    for options, words in (
        (("--ranks", "0"), "ranks"),
        (("--ranks", "1,1"), "'1,1' is not a list of different whole numbers above 0"),
        (("--ranks", "99999999999999999999"), "is not a list of different whole numbers"),
        (("--ranks", "1", "--launch", '"'), "Invalid value for '--launch': '\"': No closing quotation"),
        (("--ranks", "1", "--hidden", "x"), "Invalid value for '--hidden'"),
        (("--ranks", "1", "--launch", "-m elsewhere"), "left nothing in /"),
    ):
        job = verify(tmp_path, *options)
        assert (job.status, job.out) == (2, "")
        assert len(job.err.splitlines()) == 1, job.err
        assert words in job.error_lines[-1]


def test_a_full_disk_is_no_difference(small_disk: Path, tmp_path: Path) -> None:
    write_known_csv(tmp_path / "t.csv", *classified_rows(331, features=50, classes=5))
    # The model, half as large as a checkpoint with its velocity, has room where the next checkpoint has none.
    options = (*OPTIONS, "--scale", "divide", "--epochs", "12", "--hidden", "58", "--momentum", "0.9")
    command = ("-m", "ddp_numpy.verify", "--ranks", "1", *options)
    job = run_job(None, *command, cwd=tmp_path, env={"TMPDIR": str(small_disk)})
    assert job.status == 2
    assert job.error_lines[-1].endswith("not all checkpoints could be written; set TMPDIR to a larger disk")
