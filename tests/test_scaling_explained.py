"""Where the time of a step goes, by hand: what ranks have recorded, and the factors of efficiency."""

import math
from typing import Any

import numpy as np
import pytest

from ddp_numpy import SingleProcess
from ddp_numpy.comm.whereabouts import Among
from ddp_numpy.scaling.advice import Adviser
from ddp_numpy.scaling.explain import Straggler, explained, factors
from ddp_numpy.scaling.parts import met_parts_of, parts_of
from ddp_numpy.scaling.plan import Point, Sweep
from ddp_numpy.scaling.recording import Clock, Record
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.table import explanation

JOB, BASE, SHARE, BESIDE = Point(4, 64), Point(1, 64, "alone"), Point(1, 16, "alone"), Point(4, 64, "beside")
ALL, NODE, PARTNERS = Among.ALL, Among.NODE, Among.PARTNERS


def record(*steps: tuple[float, float, list[tuple[Among, tuple[float, ...]]]]) -> Record:
    """Of steps: begin, end, and their calls. Each makes an update of 0.5 s."""
    calls = [(number, among, times) for number, (_, _, own) in enumerate(steps) for among, times in own]
    return Record(
        np.array([step[:2] for step in steps], float),
        np.array([(step[0], step[0] + 0.5) for step in steps], float),
        np.arange(len(steps)),
        np.array([times for _, _, times in calls], float),
        np.array([among for _, among, _ in calls], np.int8),
        np.array([number for number, _, _ in calls]),
    )


def test_parts_of_a_step_by_hand() -> None:
    """Rank 1 comes 2 s later in the first step, and rank 0 in the second 1 s; what moves takes 1 s."""
    records = [
        record((0, 10, [(ALL, (5, 8))]), (10, 20, [(ALL, (17, 18))])),
        record((0, 10, [(ALL, (7, 8))]), (10, 20, [(ALL, (16, 18))])),
    ]
    found = parts_of(records, ["a", "a"])
    noise = found.pop("noise")  # a rank's steps are 7 and 9 s outside calls, the other's 9 and 8 s
    assert (noise[0], noise[-1]) == (7 / 8, 9 / 8)
    assert [own[2] for own in found.pop("by_rank")] == [8, 8.5]
    assert found == {
        "seconds": [10, 10],
        "computing": [7.5, 8],
        "update": [0.5, 0.5],
        "waiting": [1, 0.5],
        "moving": [1, 1],
        "slowest": 9,
        "steps": 2,
        "calls": 2,
        "impossible": 0,
    }


def test_who_waits_for_whom() -> None:
    """Four ranks on two hosts. In the order of ranks they come after 1, 2, 3 and 4 s, and leave after 10."""
    for among, last in ((ALL, [4, 4, 4, 4]), (NODE, [2, 2, 4, 4]), (PARTNERS, [3, 4, 3, 4])):
        records = [record((0, 12, [(among, (came, 10))])) for came in (1, 2, 3, 4)]
        waiting = parts_of(records, ["a", "a", "b", "b"])["waiting"]
        assert waiting == [last - came for last, came in zip(last, (1, 2, 3, 4), strict=True)]


def test_a_rank_that_leaves_before_the_last_has_come() -> None:
    """By its clock, which must be wrong; its call is then all waiting."""
    found = parts_of([record((0, 9, [(ALL, (5, 6))])), record((0, 9, [(ALL, (7, 8))]))], ["a", "b"])
    assert found["impossible"] == 1
    assert found["waiting"] == [1, 0]
    assert found["moving"] == [0, 1]


def test_parts_by_barriers() -> None:
    """A barrier takes 0.5 s if all are there."""
    found = met_parts_of([record((0, 9, [(ALL, (4, 6, 8))])), record((0, 9, [(ALL, (5.75, 6, 8))]))], 0.5)
    assert found["waiting"] == [1.5, 0]
    assert found["moving"] == [2.5, 2.25]


def test_a_clock_that_drifts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 0's clock is 5 s ahead at 100, and 7 s at 300: a hundredth faster."""
    now, offset = 100.0, 5.0

    class Apart(SingleProcess):
        def clock_offset(self) -> tuple[float, float]:
            return offset, 0.25

    monkeypatch.setattr("ddp_numpy.scaling.recording.time.perf_counter", lambda: now)
    clock = Clock(Apart())
    now, offset = 300.0, 7.0
    clock.close()
    assert (clock.drift, clock.error) == (pytest.approx(0.01), 0.25)
    np.testing.assert_allclose(clock.of_rank_0(np.array([100.0, 200.0, 300.0])), [105, 206, 307])


def sample(point: Point, seconds: float, parts: dict[str, Any], repetition: int = 0) -> Sample:
    facts = {"hosts": ["a"], "time": "now", "ranks_on": [{"host": host, "cpus": [0]} for host in "aabc"]}
    return Sample(repetition, point, [seconds] * 10, parts, facts)


def samples(repetition: int = 0, slower: float = 1.0) -> list[Sample]:
    """Of a strong point of four ranks. slower: how many times as long everything takes."""
    times = {
        "seconds": [5.0] * 4,
        "computing": [1.5, 1.5, 2.5, 1.5],
        "update": [0.5] * 4,
        "waiting": [2.0, 2.0, 1.0, 2.0],
        "moving": [1.0] * 4,
    }
    parts: dict[str, Any] = {name: [slower * value for value in values] for name, values in times.items()}
    parts |= {
        "slowest": 3.25 * slower, "steps": 10, "calls": 10, "impossible": 0, "rows": [16] * 4, "clock_error": 1e-6,
        "price": [1.01], "met": {"waiting": [1.75 * slower] * 4, "moving": [1.25 * slower] * 4},
    }  # fmt: skip
    return [
        sample(JOB, 5 * slower, parts, repetition),
        sample(BASE, 8 * slower, {}, repetition),
        sample(SHARE, 2.5 * slower, {"update": [0.5 * slower]}, repetition),
        sample(BESIDE, 3 * slower, {"seconds": [2.75 * slower, 3.25 * slower] * 2}, repetition),
    ]


def test_the_factors_of_efficiency_by_hand() -> None:
    found = factors(*samples())
    assert found == pytest.approx(
        {
            "update": 8.5 / 10,  # four ranks compute for 2 s each, and one update is made, not four
            "granularity": 8 / 8.5,
            "machine": 2.5 / 3,
            "job": 3 / 2.25,
            "balance": 2.25 / 3,
            "serialisation": 3 / 3.25,
            "waiting": 3.25 / 4,
            "moving": 4 / 5,
        }
    )
    assert math.prod(found.values()) == pytest.approx(8 / (4 * 5))


def test_the_factors_of_weak_scaling() -> None:
    """As many rows a rank as one process has: nothing is lost by granularity, and an update each is what must be."""
    job, base, _, beside = samples()
    job = job._replace(point=Point(4, 256))
    found = factors(job, base, base._replace(parts={"update": [0.5]}), beside)
    assert (found["update"], found["granularity"]) == (1, 1)
    assert math.prod(found.values()) == pytest.approx(8 / 5)


def test_a_point_is_explained() -> None:
    sweep = Sweep((1, 4), ("strong",), 64, 3, explain=True)
    launched = [one for repetition, slower in enumerate((1.0, 2.0, 1.0)) for one in samples(repetition, slower)]
    (own,) = explained(sweep, "strong", launched)
    assert own.point == JOB
    assert own.efficiency.value == pytest.approx(0.4)
    assert own.rest == pytest.approx(1)
    assert own.stragglers == [Straggler(2, "b", "computing", 1.5)]
    assert (own.by_clocks, own.by_barriers) == ((1.75, 1), (1.75, 1.25))
    assert own.price.value == pytest.approx(1.01)
    assert own.crowded == [("a", 2, 1)]
    said = "\n".join(explanation([own], Adviser(sweep, "strong", [], None)))
    assert "a has 2 ranks for 1 core, so they take turns." in said
    assert "4 ranks: most is lost as one rank does more than others" in said
    assert "rank 2 on b takes 1.50 times as long as ranks with as many rows, most of it in computing" in said
    assert explained(sweep, "strong", launched[1:]) != []
    assert explained(sweep, "strong", launched[:3]) == [], "nothing can be said without all samples of a repetition"
