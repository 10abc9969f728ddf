"""A CSV file that several ranks parse is what one of them would have read."""

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from jobs import run_job

HERE = Path(__file__).parent
ROWS = 45_000  # over 4 MiB: each of four ranks gets its part


def write(path: Path, header: str, row: str, change: tuple[int, str] | None = None) -> Path:
    """A file of many rows "<label>,<row>", of which one may be another."""
    numbers = np.random.default_rng(0).integers(0, 256, (ROWS, 20)).tolist()
    lines = [f"{i % 3}," + row.format(*values) for i, values in enumerate(numbers)]
    if change is not None:
        lines[change[0]] = change[1]
    path.write_text("\n".join([header, *lines]) + "\n")
    assert path.stat().st_size > 4 * 2**20
    return path


HEADER = "label," + ",".join(f"x{i}" for i in range(20))
WHOLE = ",".join(["{}"] * 20) + ",100" * 8
WHOLE_HEADER = HEADER + "".join(f",y{i}" for i in range(8))


def load(ranks: int | None, path: Path, tmp_path: Path, *arguments: Path) -> dict[str, object]:
    env = {"XDG_CACHE_HOME": tempfile.mkdtemp(dir=tmp_path)}  # each job reads anew
    job = run_job(ranks, HERE / "shared_csv.py", path.name, *arguments, cwd=path.parent, env=env)
    assert job.status == 0, job.err
    return json.loads(job.out)


@pytest.mark.parametrize(
    ("change", "alone"),
    [
        (None, False),  # uint8
        ((ROWS - 7, "2," + ",".join(["0.1"] * 28)), False),  # float32, by one row of the last part
        ((5, "1," + ",".join(["9007199254740993"] * 28)), True),  # not the same in float64
        ((ROWS // 2, '1,"7",' + ",".join(["3"] * 27)), True),
    ],
    ids=["whole", "fractions", "too large", "quoted"],
)
def test_ranks_read_together_what_one_reads(change: tuple[int, str] | None, alone: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", WHOLE_HEADER, WHOLE, change)
    expected = load(None, path, tmp_path)
    for ranks in (2, 3, 4):
        assert load(ranks, path, tmp_path) == {"sha256": expected["sha256"], "alone": alone}


def test_only_ranks_that_have_the_file_take_part(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", WHOLE_HEADER, WHOLE)
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    write(tmp_path / "other" / "t.csv", WHOLE_HEADER, WHOLE, (3, "0" + ",0" * 28))
    expected = load(None, path, tmp_path)["sha256"]
    for elsewhere in ("empty", "other"):
        assert load(3, path, tmp_path, tmp_path / elsewhere) == {"sha256": expected, "alone": True}


def test_what_is_wrong_is_named_by_its_row_in_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", WHOLE_HEADER, WHOLE, (ROWS - 2, "1," + ",".join(["3"] * 27) + ",three"))
    job = run_job(3, HERE / "shared_csv.py", path, cwd=tmp_path)
    assert job.status == 2
    (line,) = job.error_lines
    assert f"t.csv: row {ROWS - 1}, column 'y7': 'three' is not a number" in line
