"""Who does what: every row and every parameter has one rank, whatever the numbers of ranks and nodes."""

from collections.abc import Sequence

import pytest

from ddp_numpy.comm import Node
from ddp_numpy.exchange.division import blocks, by_nodes, chunk_rows, merged, node_rows, whole_batch

NODES = [(1,), (3,), (2, 2), (3, 1), (1, 1, 1), (4, 1, 2)]
LAYERS = [(785, 128), (129, 64), (65, 10), (2, 3), (19, 9000)]


def nodes(sizes: tuple[int, ...]) -> list[Node]:
    """Each rank's node."""
    found = []
    for index, size in enumerate(sizes):
        for rank in range(size):
            node = Node()
            node.sizes, node.index, node.rank = sizes, index, rank
            found.append(node)
    return found


def numbers(parts: Sequence[slice]) -> list[int]:
    return [number for part in parts for number in range(part.start, part.stop)]


@pytest.mark.parametrize("sizes", NODES)
@pytest.mark.parametrize(("rows", "unit", "most"), [(64, 16, 256), (5, 1, 2), (0, 1, 2), (37, 5, 10), (37, 5, None)])
def test_each_row_of_a_whole_batch_is_one_ranks(sizes: tuple[int, ...], rows: int, unit: int, most: int | None) -> None:
    rounds = [whole_batch(rows, node, node.rank, unit, most, None) for node in nodes(sizes)]
    assert numbers([piece for one in rounds for piece in one.pieces]) == list(range(rows))
    assert all(one.chunks == [slice(0, rows)] for one in rounds)
    assert all(piece.start % unit == 0 for one in rounds for piece in one.pieces if piece.stop > piece.start)
    assert all(piece.stop - piece.start <= (most or rows) for one in rounds for piece in one.pieces)


@pytest.mark.parametrize("sizes", NODES)
@pytest.mark.parametrize("chunk", [None, 20])
def test_each_row_and_chunk_is_one_nodes_in_as_many_rounds(sizes: tuple[int, ...], chunk: int | None) -> None:
    rows, of_ranks = 173, nodes(sizes)
    plans = [by_nodes(rows, node, node.rank, 5, 10, chunk, round_rows=40) for node in of_ranks]
    assert len({len(plan) for plan in plans}) == 1, "nodes wait for each other"
    assert sorted(numbers([piece for plan in plans for one in plan for piece in one.pieces])) == list(range(rows))
    leaders = [plan for plan, node in zip(plans, of_ranks, strict=True) if node.rank == 0]
    chunks = [part for plan in leaders for one in plan for part in one.chunks]
    assert numbers(chunks) == list(range(rows))
    if chunk:
        assert [part.start for part in chunks] == list(range(0, rows, chunk)), "whatever the nodes"
    for plan in plans:
        for one in plan:
            assert one.rows.stop - one.rows.start <= 40
            assert all(one.rows.start <= number < one.rows.stop for number in numbers(one.pieces))


@pytest.mark.parametrize("sizes", NODES)
def test_a_nodes_rows_are_those_of_its_ranks(sizes: tuple[int, ...]) -> None:
    for node in nodes(sizes):
        mine = node_rows(100, sizes, node.index, 16)
        rounds = [whole_batch(100, node, place, 16, None, None) for place in range(node.size)]
        assert numbers([mine]) == numbers([piece for one in rounds for piece in one.pieces])


@pytest.mark.parametrize("ranks", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("fixed", [True, False])
def test_each_unit_is_one_ranks(ranks: int, fixed: bool) -> None:
    of_ranks = blocks(LAYERS, fixed, ranks)
    assert len(of_ranks) == ranks
    in_order = [block for own in of_ranks for block in own]
    for number, (units, _) in enumerate(LAYERS):
        assert numbers([part for layer, part in in_order if layer == number]) == list(range(units))
    assert [layer for layer, _ in in_order] == sorted(layer for layer, _ in in_order)
    if fixed:
        assert in_order == blocks(LAYERS, True, 1)[0], "the same blocks on any number of ranks"
    shares = [sum((part.stop - part.start) * LAYERS[layer][1] for layer, part in own) for own in of_ranks]
    if ranks <= 7:
        assert max(shares) <= 1.4 * sum(shares) / ranks


def test_a_network_of_no_layers_has_no_blocks() -> None:
    assert blocks([], True, 3) == [[], [], []]


@pytest.mark.parametrize(
    ("batch", "unit", "rows"),
    [
        *((64, 16, 64), (100, 16, 112), (128, 16, 128), (130, 17, 68), (256, 32, 128), (600, 16, 256)),
        *((1024, 128, 256), (1300, 64, 384), (9000, 128, 512), (600, 300, 300)),
    ],
)
def test_a_chunk_is_whole_micro_shards(batch: int, unit: int, rows: int) -> None:
    assert chunk_rows(batch, unit, few=True) == rows


@pytest.mark.parametrize(("batch", "unit", "rows"), [(64, 16, 32), (10, 16, 16), (256, 32, 128)])
def test_a_small_batch_that_is_not_gathered_has_chunks_for_two_nodes(batch: int, unit: int, rows: int) -> None:
    assert chunk_rows(batch, unit, few=False) == rows


def test_neighbouring_runs_are_one() -> None:
    assert merged([slice(5, 9), slice(0, 2), slice(2, 2), slice(2, 5), slice(12, 13)]) == [slice(0, 9), slice(12, 13)]
