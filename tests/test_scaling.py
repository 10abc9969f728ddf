"""The parts of the scaling lab that launch nothing."""

import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ddp_numpy import InputError
from ddp_numpy.scaling.folder import PLAN, opened
from ddp_numpy.scaling.plan import Point, Sweep
from ddp_numpy.scaling.results import rows
from ddp_numpy.scaling.samples import LINES, TABLE, Sample
from ddp_numpy.scaling.statistics import median, percentile
from ddp_numpy.scaling.table import lines

FACTS = {"hosts": ["a"], "time": "now", "rows": 640, "summed_bytes": 400, "gathered_bytes": 0}
SAMPLE = {
    "version": 4, "repetition": 0, "ranks": 1, "batch_size": 64, "kind": "ranks", "step_seconds": [0.5], "parts": None,
    "facts": {"ranks_on": [{"host": "a", "cpus": [0]}], **FACTS},
}  # fmt: skip
SWEEP = Sweep((1, 2, 4), ("strong", "weak"), 64, 3)


def sample(repetition: int, point: Point, seconds: float, hosts: int = 1, **facts: Any) -> Sample:
    ranks_on = [{"host": "a", "cpus": [0]}] * point.ranks
    found = FACTS | {"hosts": ["a", "b"][:hosts], "ranks_on": ranks_on, **facts}
    return Sample(repetition, point, [seconds] * 10, None, found)


def test_the_interval_of_a_median_by_hand() -> None:
    # All values on one side of the median: 2 of 2^n throws of n coins.
    for count in range(1, 6):
        assert median(range(count)) == ((count - 1) / 2, 0, count - 1, pytest.approx(1 - 2 / 2**count))
    # One of eight on each side: 1 - 2 (1 + 8) / 256 is 0.930, too little; of nine 1 - 2 (1 + 9) / 512 is 0.961.
    assert median(range(8))[1:3] == (0, 7)
    assert median(range(9)) == (4, 1, 7, pytest.approx(1 - 20 / 512))
    assert percentile([3, 1, 2, 5, 4], 0.95) == 5
    assert percentile(range(100), 0.95) == 94


@pytest.mark.parametrize("count", [3, 5, 9, 30])
def test_the_interval_has_the_median_as_often_as_it_says(count: int) -> None:
    """Of a skewed distribution, whose median is 1."""
    draw, tries = random.Random(count), 4000
    found = [median([draw.lognormvariate(0, 1) for _ in range(count)]) for _ in range(tries)]
    inside = sum(low <= 1 <= high for _, low, high, _ in found) / tries
    assert inside == pytest.approx(found[0].coverage, abs=0.02)  # four standard deviations and more


def test_points_and_their_order() -> None:
    points = {Point(1, 64, "alone"), Point(1, 64), Point(2, 64), Point(4, 64), Point(2, 128), Point(4, 256)}
    assert set(SWEEP.points()) == points
    launches = SWEEP.launches(seed=1)
    for number, of_one in itertools.groupby(launches, key=lambda launch: launch[0]):
        assert Counter(point for _, point in of_one) == Counter(points), f"repetition {number} has each point once"
    assert launches != SWEEP.launches(seed=2)
    assert launches == Sweep((1, 2, 4), ("strong", "weak"), 64, 5).launches(seed=1)[: len(launches)]
    more = {Point(1, 32, "alone"), Point(1, 16, "alone")}
    more |= {Point(ranks, batch, "beside") for ranks, batch in ((2, 64), (4, 64), (2, 128), (4, 256))}
    assert set(Sweep((1, 2, 4), ("strong", "weak"), 64, 3, explain=True).points()) == points | more
    assert [Point(3, 64, kind).process_batch_size for kind in ("beside", "ranks")] == [22, 64]
    with pytest.raises(InputError, match="128 ranks can't share a batch of 64 rows"):
        Sweep((1, 128), ("strong",), 64, 5)
    Sweep((1, 128), ("weak",), 64, 5)


def test_efficiency_by_hand() -> None:
    """The machine is twice as slow in the second repetition, which changes no ratio."""
    alone, one, two, four = Point(1, 64, "alone"), Point(1, 64), Point(2, 64), Point(4, 64)
    samples = [
        sample(repetition, point, seconds * (1 + repetition), hosts)
        for repetition in (0, 1)
        for point, seconds, hosts in ((alone, 8.0, 1), (one, 10.0, 1), (two, 5.0, 1), (four, 4.0, 2))
    ]
    samples += [sample(0, Point(4, 256), 16.0, 2)]  # weak
    found = rows(SWEEP, "strong", samples)
    assert [row.point for row in found] == [alone, one, two, four]
    assert [row.speedup.value for row in found] == pytest.approx([1, 0.8, 1.6, 2])
    assert [row.efficiency.value for row in found] == pytest.approx([1, 0.8, 0.8, 0.5])
    assert [row.over_one_rank for row in found] == pytest.approx([1.25, 1, 1, 0.625])
    assert [row.over_one_host for row in found] == pytest.approx([1.25, 1, 1, 0.625])
    assert [row.hosts for row in found] == [1, 1, 1, 2]
    assert found[3].images_per_second == pytest.approx(64 / 6)
    assert "50.0%" in lines(SWEEP, "strong", found)[5]
    weak = rows(SWEEP, "weak", samples)
    assert [row.point for row in weak] == [alone, one, Point(4, 256)]
    assert weak[2].efficiency.value == pytest.approx(0.5)


def test_samples_are_kept_and_go_on(tmp_path: Path) -> None:
    folder, plan = tmp_path / "a" / "b", {"ranks": [1, 2]}
    first, second = sample(0, Point(1, 64), 1.0), sample(0, Point(2, 64), 0.5, hosts=2)
    with opened(folder, plan) as (samples, seed):
        samples.add(first)
        with pytest.raises(InputError, match="b"), opened(folder, plan):
            pass
    torn = (folder / LINES).read_bytes() + b'{"version": 4, "rep'
    (folder / LINES).write_bytes(torn)
    with opened(folder, plan) as (samples, again):
        assert again == seed
        assert samples.all == [first]
        assert samples.torn
        samples.add(second)
    with opened(folder, plan) as (samples, _):
        assert samples.all == [first, second]
    table = (folder / TABLE).read_text().splitlines()
    assert len(table) == 3
    assert table[2].startswith("0,2,ranks,64,2,10,0.5,0.5,0.5,128,")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (LINES, "{}\n", "line 1: no sample of this version"),
        (LINES, "no json\n", "line 1: no sample of this version: it is no JSON"),
        (LINES, '{"version": 1}\n', "line 1: no sample of this version"),
        (
            LINES,
            json.dumps(SAMPLE | {"facts": {}}) + "\n",
            "line 1: no sample of this version: a sample.facts has no hosts",
        ),
        (LINES, json.dumps(SAMPLE | {"step_seconds": []}) + "\n", "line 1: no sample of this version: it has no steps"),
        (
            LINES,
            json.dumps(SAMPLE | {"ranks": 2}) + "\n",
            "line 1: no sample of this version: not all is there of its 2",
        ),
        (LINES, json.dumps(SAMPLE | {"parts": {}}) + "\n", "line 1: no sample of this version: a sample.parts has no"),
        (LINES, json.dumps(SAMPLE) + "\n[" + "9" * 9999 + "]\n", "line 2: no sample of this version"),
        (PLAN, "", "is damaged, or of another version"),
        (PLAN, "[]", "is damaged, or of another version"),
        (
            PLAN,
            json.dumps({"format": "ddp_numpy sweep 1", "seed": 1, "plan": {"ranks": [1], "training": {"lr": 2}}}),
            "another value of ranks",
        ),
        (
            PLAN,
            json.dumps({"format": "ddp_numpy sweep 1", "seed": 1, "plan": {"ranks": [1, 2], "training": {"lr": 1}}}),
            "another value of lr",
        ),
        (PLAN, json.dumps({"format": "ddp_numpy sweep 2", "seed": 1, "plan": {}}), "of another version"),
    ],
)
def test_damaged_files_of_a_sweep(name: str, text: str, words: str, tmp_path: Path) -> None:
    plan: dict[str, Any] = {"ranks": [1, 2], "training": {"lr": 2}}
    with opened(tmp_path, plan):
        pass
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words), opened(tmp_path, plan):
        pass
    assert (tmp_path / name).read_text() == text


def test_no_sweep_in_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match=r"has files that are no sweep's, thesis\.tex for one"), opened(tmp_path, {}):
        pass
    with pytest.raises(InputError, match=r"File exists|Not a directory"), opened(tmp_path / "thesis.tex", {}):
        pass
