import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ddp_numpy.base.randomness import generator
from ddp_numpy.data import batches, epoch_order, share
from ddp_numpy.data.split import stratified_split


@given(rows=st.integers(0, 5000), size=st.integers(1, 300))
def test_shares_cover_a_batch_once_and_evenly(rows: int, size: int) -> None:
    shares = [share(rows, rank, size) for rank in range(size)]
    assert shares[0].start == 0
    assert shares[-1].stop == rows
    assert all(a.stop == b.start for a, b in itertools.pairwise(shares))
    assert {s.stop - s.start for s in shares} <= {rows // size, -(-rows // size)}


@given(rows=st.integers(1, 500), batch=st.integers(1, 100), size=st.integers(1, 9), seed=st.integers(0, 2**70))
def test_every_row_is_in_one_share_of_one_batch(rows: int, batch: int, size: int, seed: int) -> None:
    seen = [
        row
        for rows_of_batch in batches(epoch_order(rows, seed, 1), batch)
        for rank in range(size)
        for row in rows_of_batch[share(len(rows_of_batch), rank, size)]
    ]
    assert sorted(seen) == list(range(rows))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    np.testing.assert_array_equal(epoch_order(100, 1, 2), epoch_order(100, 1, 2))
    assert (epoch_order(100, 1, 2) != epoch_order(100, 1, 3)).any()
    assert (epoch_order(100, 1, 2) != epoch_order(100, 2, 2)).any()


def test_no_two_purposes_share_random_numbers() -> None:
    streams = [generator(7, "split"), generator(7, "init"), generator(7, "order", 0), generator(7, "order", 1)]
    assert len({stream.integers(2**63) for stream in streams}) == 4


def test_streams_stay_what_they_are() -> None:
    # Published results hang on these numbers.
    assert [int(generator(1, purpose).integers(1000)) for purpose in ("split", "init", "order")] == [15, 941, 426]


def split_before(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The split of versions that could hold out the last row of a class. What they split well stays as it was."""
    held_out = min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    quotas = np.bincount(labels) * (held_out / len(labels))
    counts = np.floor(quotas).astype(np.int64)
    counts[np.argsort(counts - quotas, kind="stable")[: held_out - counts.sum()]] += 1
    rng = generator(seed, "split")
    valid = [rng.permutation(np.flatnonzero(labels == label))[:count] for label, count in enumerate(counts)]
    return np.setdiff1d(np.arange(len(labels)), np.concatenate(valid)), np.sort(np.concatenate(valid))


@given(
    counts=st.lists(st.integers(1, 60), min_size=2, max_size=6),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 1000),
)
def test_a_split_holds_out_its_fraction_of_every_class(counts: list[int], fraction: float, seed: int) -> None:
    labels = generator(0, "order").permutation(np.repeat(np.arange(len(counts)), counts))
    train, valid = stratified_split(labels, fraction, seed)
    assert sorted([*train, *valid]) == list(range(len(labels)))
    held_out = min(max(round(fraction * len(labels)), 1), len(labels) - 1)
    for label, count in enumerate(counts):
        held_out_of_class = np.sum(labels[valid] == label)
        quota = held_out / len(labels) * count
        assert held_out_of_class <= count - 1
        assert abs(held_out_of_class - min(quota, count - 1)) < 1
    train_before, valid_before = split_before(labels, fraction, seed)
    if len(np.unique(labels[train_before])) == len(counts):
        assert len(valid) == held_out
        np.testing.assert_array_equal(train, train_before)
        np.testing.assert_array_equal(valid, valid_before)


def test_a_split_depends_on_the_seed() -> None:
    labels = np.arange(100) % 5
    np.testing.assert_array_equal(stratified_split(labels, 0.2, 1)[1], stratified_split(labels, 0.2, 1)[1])
    assert (stratified_split(labels, 0.2, 1)[1] != stratified_split(labels, 0.2, 2)[1]).any()
