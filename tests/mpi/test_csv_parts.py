"""A CSV file that several ranks parse is what one of them would have read."""

import json
from pathlib import Path

import numpy as np
import pytest
from jobs import Job, run_job

from ddp_numpy import SingleProcess, load_data
from ddp_numpy.data.csv_parts import _read_part
from ddp_numpy.data.table import TableOptions

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


CHANGES = {  # the change of one row, and whether rank 0 has to read the file alone
    "whole": (None, False),  # uint8
    "fractions": ((ROWS - 7, "2," + ",".join(["0.1"] * 28)), False),  # float32, by one row of the last part
    "too large": ((5, "1," + ",".join(["9007199254740993"] * 28)), True),  # not the same in float64
    "a column of 0 and 1": ((0, "0," + ",".join(["0", "1"] * 14)), False),
    "quoted": ((ROWS // 2, '1,"7",' + ",".join(["3"] * 27)), True),
    "ends of lines as on old Macs": (None, True),  # \r alone, which pandas takes, and at which no part can be cut
}


Loaded = dict[str, dict[str, object]]
"""What a job found in each file that it loaded, by the file, or by the folder where ranks other than 0 were."""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[int | None, Loaded]:
    """What jobs of every number of ranks found in the files, each of them in all. None: without mpirun."""
    folder = tmp_path_factory.mktemp("csv")
    for name, (change, _) in CHANGES.items():
        path = write(folder / f"{name}.csv", WHOLE_HEADER, WHOLE, change)
        if "ends of lines" in name:
            path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    for elsewhere in ("empty", "other"):
        (folder / elsewhere).mkdir()
    write(folder / "other" / "whole.csv", WHOLE_HEADER, WHOLE, (3, "0" + ",0" * 28))
    files = {name: f"{name}.csv" for name in CHANGES}
    hidden = {elsewhere: f"whole.csv:{folder / elsewhere}" for elsewhere in ("empty", "other")}
    found = {}
    for ranks in (None, 2, 3, 4):
        arguments = files | hidden if ranks == 3 else files
        env = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}  # each job reads anew
        job = run_job(ranks, HERE / "shared_csv.py", *arguments.values(), cwd=folder, env=env, timeout=180)
        assert job.status == 0, job.err
        found[ranks] = dict(zip(arguments, json.loads(job.out), strict=True))
    return found


@pytest.mark.parametrize("name", CHANGES)
def test_ranks_read_together_what_one_reads(name: str, loaded: dict[int | None, Loaded]) -> None:
    for ranks in (2, 3, 4):
        assert loaded[ranks][name] == {"sha256": loaded[None][name]["sha256"], "alone": CHANGES[name][1]}


def test_only_ranks_that_have_the_file_take_part(loaded: dict[int | None, Loaded]) -> None:
    for elsewhere in ("empty", "other"):
        assert loaded[3][elsewhere] == {"sha256": loaded[None]["whole"]["sha256"], "alone": False}


def test_a_column_that_counts_the_rows_is_left_out_by_one_and_by_all(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", WHOLE_HEADER, WHOLE)
    header, *lines = path.read_text().splitlines()
    rows = [f"{line[: line.rindex(',')]},{number}" for number, line in enumerate(lines, 1)]
    path.write_text("\n".join([header, *rows]) + "\n")
    found = []
    for ranks in (None, 3):
        env = {"XDG_CACHE_HOME": str(tmp_path / f"cache{ranks}")}
        job = run_job(ranks, HERE / "shared_csv.py", "t.csv", cwd=tmp_path, env=env)
        assert job.status == 0, job.err
        found += json.loads(job.out)
    assert found[0]["sha256"] == found[1]["sha256"]
    assert (found[0]["alone"], found[1]["alone"]) == (True, False)
    assert load_data(str(path), SingleProcess())[0].features.shape[1] == 27


def test_what_is_wrong_is_named_by_its_row_in_the_whole_file(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", WHOLE_HEADER, WHOLE, (ROWS - 2, "1," + ",".join(["3"] * 27) + ",three"))
    job = run_job(3, HERE / "shared_csv.py", path, cwd=tmp_path)
    assert job.status == 2
    (line,) = job.error_lines
    assert f"t.csv: row {ROWS - 1}, column 'y7': 'three' is not a number" in line


def test_a_file_that_is_replaced_while_ranks_parse_it(tmp_path: Path) -> None:
    new, path = write(tmp_path / "new.csv", WHOLE_HEADER, WHOLE), tmp_path / "t.csv"
    header, *rows = new.read_text().splitlines()

    def load(name: str, ranks: int | None = 2, times: int = 0) -> Job:
        return run_job(ranks, HERE / "replaced_csv.py", name, new, str(times), cwd=tmp_path)

    expected = load("new.csv", ranks=None)
    path.write_text("\n".join([header, *reversed(rows)]) + "\n")  # other rows, in a file of the same size
    for job in (load("t.csv", times=1), load("t.csv")):  # the rows that are read, and those that are then in the cache
        assert (job.status, job.out) == (0, expected.out), job.err
    path.touch()  # so that it is not in the cache
    job = load("t.csv", times=9)
    assert job.status == 2
    assert job.error_lines == ["error: t.csv: changed each of the 3 times that it was read; start when it is complete"]


@pytest.mark.parametrize("row", range(12))
def test_a_row_that_is_too_long_is_not_taken_by_any_part(row: int, tmp_path: Path) -> None:
    rows = [f"{k % 3},{k}" for k in range(12)]
    rows[row] += ","  # which pandas lets pass in the first row that it sees
    (tmp_path / "t.csv").write_text("\n".join(["label,a", *rows]) + "\n")
    for ranks in (2, 3, 4):
        assert None in [_read_part(tmp_path / "t.csv", TableOptions("label"), part, ranks) for part in range(ranks)]
