"""Predictions: what is fitted, to a cluster that is made up, and how true it was."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddp_numpy import InputError
from ddp_numpy.scaling.advice import Adviser
from ddp_numpy.scaling.basis import Basis
from ddp_numpy.scaling.fit import amdahl, non_negative, normal_form, universal_scalability
from ddp_numpy.scaling.model import Job, Model
from ddp_numpy.scaling.network import Network, Sum
from ddp_numpy.scaling.plan import Point, Sweep
from ddp_numpy.scaling.predictions import Asked, Outlook, compared, keep
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.table import comparison, outlook
from ddp_numpy.scaling.variability import LEVELS, Variability

SWEEP = Sweep((1, 2, 4, 8), ("strong",), 1024, 3, explain=True, predict=(16, 32))
NBYTES, RATE, ALPHA, COPY = 400_000, 50e9, 3e-5, 2e-11  # of the made-up cluster: two ranks on a host
ASKED = Asked((16, 32), None, 0.5, None, 10)


def test_non_negative_coefficients_by_hand() -> None:
    features = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0]])
    np.testing.assert_allclose(non_negative(features, features @ [3.0, 0.5]), [3, 0.5])
    falling = non_negative(features, np.array([4.0, 3.0, 2.0]))  # would need -0.6 of the second
    assert falling[1] == 0
    # By relative errors, 1/v is the mean of 1/values weighted with themselves: sum(1/v) / sum(1/v^2).
    assert falling[0] == pytest.approx((1 / 4 + 1 / 3 + 1 / 2) / (1 / 16 + 1 / 9 + 1 / 4))


def test_laws_find_what_they_say() -> None:
    few = (1, 2, 4, 8)
    assert amdahl({n: 0.5 + 2 / n for n in few})(64) == pytest.approx(0.5 + 2 / 64)
    usl = universal_scalability({n: 0.5 + 2 / n + 0.01 * (n - 1) for n in few})
    assert usl(64) == pytest.approx(0.5 + 2 / 64 + 0.63)
    assert normal_form({n: 2 + 0.1 * math.sqrt(n) * math.log2(n) for n in few})(64) == pytest.approx(2 + 0.1 * 8 * 6)


def alone(rows: int) -> float:
    return 2e-4 + 4e-6 * rows


def useful(job: Job, gathers: bool) -> float:
    """Two processes on a host are 3 % slower; a job's ranks need 20 µs more; others' rows cost a quarter of own."""
    own = alone(job.rows) * (1.03 if job.on_a_host > 1 else 1) + 2e-5
    return own + (1e-6 * job.rows * (job.hosts - 1) if gathers else 0)


def network(job: Job, nbytes: float, ways: int, rate: float = RATE) -> float:
    return ways * (ALPHA * job.rounds + (8 / rate + COPY) * job.through_a_link(nbytes))


def calls(job: Job, gathers: bool, rate: float = RATE) -> float:
    node = 5e-5 if job.on_a_host > 1 else 0
    return node + network(job, 100 * job.batch_size if gathers else NBYTES, 1 if gathers else 2, rate)


def sample(point: Point, seconds: float, hosts: int, parts: dict[str, Any], repetition: int, gathers: bool) -> Sample:
    job = Job(point.ranks, hosts, point.batch_size)
    node = 5e-5 if job.on_a_host > 1 else 0
    facts = {
        "hosts": [f"node{number}" for number in range(hosts)],
        "time": "now",
        "rows": 10_240,
        "summed_bytes": 0 if gathers and hosts > 1 else NBYTES,
        "gathered_bytes": 100 * point.batch_size if gathers and hosts > 1 else 0,
        "sum_seconds": [
            {"bytes": size, "seconds": node + network(job, size, 2)} for size in (512, 32_768, 262_144, NBYTES)
        ],
    }
    return Sample(repetition, point, [seconds] * 5, parts, facts)


def samples(sweep: Sweep, gathers: bool = False) -> Iterator[Sample]:
    """What a made-up cluster shows. In later repetitions everything but the sums is slower by a hundredth."""
    for repetition, slower in enumerate((1.0, 1.01, 1.0)):
        for point in sweep.points():
            hosts = max(1, point.ranks // 2)
            job = Job(point.ranks, hosts, point.batch_size)
            if point.kind == "alone":
                seconds, parts = alone(point.batch_size), {"update": [1e-5], "noise": [1.0] * len(LEVELS)}
            elif point.kind == "beside":
                seconds = alone(job.rows) * (1.03 if job.on_a_host > 1 else 1)
                parts = {"seconds": [seconds * slower] * point.ranks}
            else:
                own = useful(job, gathers) if point.ranks > 1 else alone(job.rows)
                seconds = own + (calls(job, gathers) if point.ranks > 1 else 0)
                parts = {
                    "seconds": [seconds * slower] * point.ranks,
                    "computing": [own * slower - 1e-5] * point.ranks,
                    "update": [1e-5] * point.ranks,
                    "slowest": own * slower,
                    "noise": [1.0] * len(LEVELS),
                    "rows": [job.rows] * point.ranks,
                }
            yield sample(point, seconds * slower, hosts, parts, repetition, gathers)


def basis(found: Sequence[Sample], sweep: Sweep = SWEEP, on_a_host: int | None = None) -> Basis:
    return Basis(sweep, "strong", found, (16, 32), on_a_host, RATE, ())


@pytest.mark.parametrize("gathers", [False, True])
def test_a_made_up_cluster_is_found(gathers: bool) -> None:
    model = Model([one for one in samples(SWEEP, gathers) if one.repetition != 1], RATE)
    for ranks in (2, 4, 8, 16, 64, 256):
        job = Job(ranks, ranks // 2, 1024)
        if job.rows in (1024, 512, 256, 128, 64, 32):  # others lie on a line anyway
            assert model.alone(job.rows) == pytest.approx(alone(job.rows))
        assert model.seconds(job) == pytest.approx(useful(job, gathers) + calls(job, gathers))


def test_fewer_rows_never_take_less_time_for_each() -> None:
    found = [one for one in samples(SWEEP) if one.point.batch_size >= 64]
    for number, one in enumerate(found):
        if one.point.kind == "alone" and one.point.batch_size == 64:
            found[number] = one._replace(step_seconds=[1e-5] * 5)  # so the line through 64 and 128 is below 0 for 32
    model = Model(found, RATE)
    assert model.alone(32) == pytest.approx(5e-6)
    assert all(model.seconds(Job(ranks, ranks // 2, 1024)) > 0 for ranks in (32, 64, 512, 1024))


def test_ranks_that_are_faster_than_one_process_are_so_in_proportion() -> None:
    found = list(samples(SWEEP))
    for one in found:
        if one.point.kind == "ranks" and one.point.ranks > 1 and one.parts is not None:
            own = 0.9 * useful(Job(one.point.ranks, one.point.ranks // 2, 1024), False)
            one.parts["computing"], one.parts["update"] = [own] * one.point.ranks, [0.0] * one.point.ranks
    model = Model(found, RATE)
    four, of_64 = (Job(ranks, ranks // 2, 1024) for ranks in (4, 64))
    faster = 0.9 * useful(four, False) / (1.03 * alone(256))
    assert model.useful(of_64) == pytest.approx(faster * 1.03 * alone(16), rel=0.02)


def test_links_of_another_rate() -> None:
    """A byte takes 0.8 ns on a wire of 10 Gbit, 1.06 with its frames, and hosts take 2 ns to copy it."""
    slow, fast, unknown = (
        [Sum(rounds, nbytes, 1e-5 * rounds + a_byte * nbytes, rate) for rounds in (2, 4) for nbytes in (1e4, 1e5)]
        for rate, a_byte in ((1e9, 8.5e-9), (10e9, 2e-9), (None, 3e-9))
    )
    both = Network([*slow, *fast])
    assert both.hosts_are_known
    for rate, a_byte in ((1e9, 8.5e-9), (10e9, 2e-9), (100e9, 2e-9), (1e8, 8e-8 * 1538 / 1448)):
        assert both.seconds(2, 1e6, rate) == pytest.approx(2e-5 + a_byte * 1e6)
    only_slow = Network(slow)
    assert not only_slow.hosts_are_known
    assert only_slow.seconds(0, 1e6, 10e9) == pytest.approx(8e-10 * 1538 / 1448 * 1e6)
    assert Network(unknown).seconds(0, 1e6, None) == pytest.approx(3e-3)


def test_the_slowest_of_many() -> None:
    """Of N numbers between 0 and 2 the largest is 2 N / (N + 1) on average."""
    of_steps = Variability([1.0], 2 * LEVELS)
    assert [of_steps.expected_largest(ranks) for ranks in (1, 2, 8, 100)] == pytest.approx(
        [1, 4 / 3, 16 / 9, 200 / 101], rel=0.02
    )
    of_ranks = Variability([0.9, 1.1], np.ones(len(LEVELS)))  # both slow: all but one time in 2^N
    assert of_ranks.expected_largest(3) == pytest.approx(1.1 - 0.2 / 8)


@pytest.mark.parametrize(("power", "found"), [(0, 0), (0.5, 0.5), (1, 1), (1.5, 1), (-1, 0)])
def test_how_noise_depends_on_the_length_of_a_step(power: float, found: float) -> None:
    known = list(samples(SWEEP))
    for one in known:
        if one.point.kind == "alone" and one.parts is not None:
            width = 0.02 * (one.seconds / alone(1024)) ** -power
            one.parts["noise"] = (1 + width * (2 * LEVELS - 1)).tolist()
        elif one.point.kind == "ranks" and one.parts is not None and one.point.ranks > 1:
            one.parts["noise"] = (0.9 + 0.2 * LEVELS).tolist()
    model = Model(known, RATE)
    of_eight, of_more = (model.useful(Job(ranks, ranks // 2, 1024)) for ranks in (8, 64))
    expected = 1 + 0.1 * (1 / 3) * (of_more / of_eight) ** -found  # the larger of two lies a third of the way up
    assert model.variability(Job(64, 32, 1024)).expected_largest(2) == pytest.approx(expected, rel=2e-3)


def test_drawn_times_are_those_that_are_expected() -> None:
    both, draw = Variability([0.9, 1.0, 1.1], 0.5 + LEVELS), np.random.default_rng(1)
    ranks = both.draw_ranks(draw, 100_000)
    assert set(ranks) == {0.9, 1.0, 1.1}
    times = (ranks * both.draw_noise(draw, 100_000)).reshape(-1, 10)
    assert times.mean() == pytest.approx(1, rel=0.01)
    assert times.max(axis=1).mean() == pytest.approx(both.expected_largest(10), rel=0.01)


def test_an_outlook() -> None:
    found = Outlook(basis(list(samples(SWEEP))), ASKED)
    one = found.of(16)
    assert (one.hosts, one.batch_size, one.further) == (8, 1024, 2)
    job = Job(16, 8, 1024)
    assert one.seconds == pytest.approx(useful(job, False) + calls(job, False), rel=0.01)
    assert one.low < one.seconds < one.high
    assert one.efficiency == pytest.approx(alone(1024) / 16 / one.seconds, rel=0.01)
    most = found.most_ranks()
    assert found.efficiency(most) >= 0.5 > found.efficiency(most + 2)
    within = found.training_seconds(4) * 1.0001
    slower = Outlook(basis(list(samples(SWEEP))), ASKED._replace(within=within))
    fewest = slower.fewest_ranks()
    assert fewest == 4
    assert slower.training_seconds(2) > within
    said = "\n".join(outlook(slower))
    assert f"Efficiency stays at 50% and more up to {most} ranks." in said
    assert f"The fewest ranks that train 10 epochs in {within:g} s are {fewest}: in" in said
    assert "No number of ranks trains 10 epochs in 1e-09 s." in "\n".join(
        outlook(Outlook(basis(list(samples(SWEEP))), ASKED._replace(within=1e-9)))
    )


def test_what_would_help_and_how_much() -> None:
    found = list(samples(SWEEP))
    adviser = Adviser(SWEEP, "strong", found, RATE)

    def efficiency(batch: int, rate: float) -> float:
        job = Job(8, 4, batch)
        return alone(batch) / 8 / (useful(job, False) + calls(job, False, rate))

    larger, half, faster = adviser.of(8)
    now = efficiency(1024, RATE)
    of_four = alone(1024) / 4 / (useful(Job(4, 2, 1024), False) + calls(Job(4, 2, 1024), False))
    assert half == ("with 4 ranks", pytest.approx(of_four / now, rel=0.01))
    assert larger == ("with --batch-size 4096", pytest.approx(efficiency(4096, RATE) / now, rel=0.01))
    assert faster == ("on links ten times as fast", pytest.approx(efficiency(1024, 10 * RATE) / now, rel=0.1))
    assert [one.change for one in adviser.of(2)] == ["with --batch-size 4096"], "one host needs no links"
    assert Adviser(SWEEP, "strong", found[:3], RATE).of(8) == [], "too few samples"


@pytest.mark.parametrize(("rows", "changes"), [(4095, ["with --batch-size 2048"]), (2047, [])])
def test_no_larger_batch_is_advised_than_there_are_rows(rows: int, changes: list[str]) -> None:
    found = list(samples(SWEEP))
    for one in found:
        one.facts["rows"] = rows
    assert [one.change for one in Adviser(SWEEP, "strong", found, RATE).of(2)] == changes


def test_predictions_are_kept_and_compared(tmp_path: Path) -> None:
    known = list(samples(SWEEP))
    found = Outlook(basis(known), ASKED)
    path = keep(tmp_path, [found.of(16), found.of(32)])
    elsewhere = Outlook(basis(known), ASKED._replace(network=10 * RATE)), Outlook(basis(known, on_a_host=4), ASKED)
    keep(tmp_path, [one.of(16) for one in elsewhere])
    assert compared(tmp_path, SWEEP, known) == []
    later = Point(16, 1024)
    measured = [
        sample(later, found.of(16).seconds * times, 8, {}, number, False)
        for number, times in enumerate((0.9, 0.8, 0.7))
    ]
    (one,) = compared(tmp_path, SWEEP, [*known, *measured])
    assert one.error == pytest.approx(0.25)
    assert not one.held
    assert "+25.0%" in "\n".join(comparison([one]))
    text = path.read_text().replace('"ranks": 32', '"ranks": 64')
    path.write_text(text)
    with pytest.raises(InputError, match="was changed after it was written; move it away"):
        compared(tmp_path, SWEEP, known)


@pytest.mark.parametrize(
    ("ranks", "words"),
    [
        ((1,), "--predict and --simulate need two ranks and more"),
        ((1, 2), "32 ranks, 2 on a host, need several hosts, and none were measured"),
    ],
)
def test_what_can_t_be_predicted(ranks: tuple[int, ...], words: str) -> None:
    sweep = Sweep(ranks, ("strong",), 1024, 3, explain=True, predict=(16, 32))
    with pytest.raises(InputError, match=words):
        Outlook(basis(list(samples(sweep)), sweep), ASKED)
