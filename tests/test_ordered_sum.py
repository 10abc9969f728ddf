"""Sums whose bits don't depend on who adds up which terms."""

import numpy as np
import pytest

from ddp_numpy.data import share
from ddp_numpy.exchange.ordered_sum import OrderedSum, memory_for_sum, partial_sums

RNG = np.random.default_rng(0)


def added(terms: list[np.ndarray], start: int, stop: int) -> OrderedSum:
    """Some of the terms, added up as far as they belong together, in as little memory as is said to do."""
    found = OrderedSum([np.empty(5, np.float32) for _ in range(memory_for_sum(max(1, stop - start)))])
    for number in range(start, stop):
        term = found.space()
        term[...] = terms[number]
        found.add(slice(number, number + 1), term)
    return found


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 13, 32, 100])
def test_a_total_has_the_same_bits_however_terms_are_shared_out(count: int) -> None:
    terms = [(RNG.standard_normal(5) * 10.0 ** RNG.integers(-3, 3)).astype(np.float32) for _ in range(count)]
    expected = added(terms, 0, count).total().copy()
    np.testing.assert_allclose(expected, np.sum(terms, axis=0, dtype=np.float64), rtol=0, atol=1e-2)
    for members in (1, 2, 3, 5, count, count + 2):
        total = OrderedSum()
        for member in range(members):
            own = share(count, member, members)
            part = added(terms, own.start, own.stop)
            assert part.spans == partial_sums(own.start, own.stop)
            for span, term in zip(part.spans, part.sums, strict=True):
                total.add(span, term.copy())
        np.testing.assert_array_equal(total.total(), expected)
        assert total.spans == [slice(0, count)]


def test_pairs_are_added_first() -> None:
    terms = [np.full(5, value, np.float32) for value in (1e8, -1e8, 3, 4)]
    np.testing.assert_array_equal(added(terms, 0, 4).total(), 7)
    terms = [terms[number] for number in (0, 2, 1, 3)]  # 1e8 + 3 is rounded
    assert (added(terms, 0, 4).total() != 7).all()


def test_what_there_is_memory_for() -> None:
    for terms in range(1, 70):
        for start in range(130):
            added([np.zeros(5, np.float32)] * (start + terms), start, start + terms)
    assert memory_for_sum(10**12) < 100


def test_nothing_is_zero_and_a_sum_begins_anew() -> None:
    total = OrderedSum([np.ones(5)])
    np.testing.assert_array_equal(total.total(), 0)
    total.add(slice(0, 1), np.ones(5))
    total.clear()
    np.testing.assert_array_equal(total.total(), 0)
