"""Whether efficiency fell: by hand, by brute force, and how often it is said of nothing."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from test_scaling_predicted import SWEEP, samples

from ddp_numpy import InputError
from ddp_numpy.scaling.compare import EFFICIENCY, Key, chance_of_lower, changes, keep_efficiencies, measured, read
from ddp_numpy.scaling.table import compared_with_before

KEY: Key = ("strong", 2, 64)


@pytest.mark.parametrize(("values", "others"), [(1, 1), (2, 3), (3, 3), (4, 2)])
def test_the_chance_is_that_of_all_orders(values: int, others: int) -> None:
    """Each order of distinct values is as probable as any other."""
    places = range(values + others)
    above = []
    for own in itertools.combinations(places, values):
        rest = [place for place in places if place not in own]
        above.append(sum(value > other for value in own for other in rest))
    for own in itertools.combinations(places, values):
        rest = [float(place) for place in places if place not in own]
        mine = sum(value > other for value in own for other in rest)
        expected = sum(count <= mine for count in above) / len(above)
        assert chance_of_lower([float(place) for place in own], rest) == pytest.approx(expected)


def test_what_fell_by_hand() -> None:
    before = {KEY: [0.80, 0.81, 0.79, 0.80, 0.82]}
    (lower,) = changes(before, {KEY: [0.70, 0.71, 0.72, 0.70, 0.69]}, 0.05)
    assert (lower.fell, lower.before, lower.now) == (True, 0.80, 0.70)
    assert lower.ratio == pytest.approx(0.875)
    assert lower.chance == pytest.approx(1 / 252)
    (little,) = changes(before, {KEY: [0.78, 0.77, 0.78, 0.77, 0.78]}, 0.05)
    assert (little.fell, little.chance) == (False, pytest.approx(1 / 252)), "lower, but by less than is allowed"
    (by_chance,) = changes(before, {KEY: [0.60, 0.83, 0.60, 0.83, 0.60]}, 0.05)
    assert not by_chance.fell
    (same,) = changes(before, before, 0.05)
    assert (same.fell, same.ratio) == (False, 1)
    assert "as before" in compared_with_before([same], 0.05)[-1]
    assert "fell" in compared_with_before([lower], 0.05)[-1]


def test_it_seldom_cries_wolf_and_finds_what_is_there() -> None:
    """Efficiencies that vary by 3 %, of three points: the same, and lower by 9 %, in 1,000 pairs of sweeps each."""
    draw = np.random.default_rng(1)
    keys: list[Key] = [("strong", ranks, 64) for ranks in (2, 4, 8)]

    def sweep(times: float) -> dict[Key, list[float]]:
        return {key: (times * draw.normal(0.8, 0.024, 5)).tolist() for key in keys}

    wolf = sum(any(one.fell for one in changes(sweep(1), sweep(1), 0.05)) for _ in range(1000))
    found = sum(any(one.fell for one in changes(sweep(1), sweep(0.91), 0.05)) for _ in range(1000))
    assert wolf <= 10
    assert found >= 950


def test_efficiencies_are_kept_and_read(tmp_path: Path) -> None:
    found = measured(SWEEP, list(samples(SWEEP)))
    assert [ranks for _, ranks, _ in found] == [2, 4, 8]
    assert all(len(values) == 3 for values in found.values())
    keep_efficiencies(tmp_path, found)
    assert read(tmp_path / EFFICIENCY) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file"),
        ("", "is damaged, or of another version"),
        ("{", "is damaged, or of another version"),
        (json.dumps({"format": "ddp_numpy efficiency 0", "points": []}), "is damaged, or of another version"),
        (json.dumps({"format": "ddp_numpy efficiency 1", "points": [{}]}), "is damaged, or of another version"),
    ],
)
def test_what_can_t_be_compared_with(text: str | None, words: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / EFFICIENCY).write_text(text)
    with pytest.raises(InputError, match=words):
        read(tmp_path / EFFICIENCY)


def test_sweeps_without_a_point_in_common_or_with_too_few_launches() -> None:
    with pytest.raises(InputError, match="have no number of ranks with the same batch in common"):
        changes({KEY: [0.8]}, {("strong", 2, 128): [0.8]}, 0.05)
    with pytest.raises(InputError, match="2 and 2 launches are too few to tell; raise --repeat"):
        changes({KEY: [0.8, 0.8]}, {KEY: [0.8, 0.8]}, 0.05)
