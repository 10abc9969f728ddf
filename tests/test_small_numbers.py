"""Numbers that are read quickly are those that pandas reads; all else is left to it."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddp_numpy.data.small_numbers import small_numbers

SMALL = st.integers(0, 255).map(str) | st.sampled_from(["000", "07", "255", "0"])
ODD = st.sampled_from(
    ["", "256", "999", "0255", "-1", "+1", "1.5", "1e1", " 5", "5 ", '"5"', "x", "1_0", "\x00", "٣", "1\r"]
)


def lines(rows: list[list[str]], end: str = "\n") -> bytes:
    return "".join(",".join(row) + end for row in rows).encode()


@given(
    st.integers(1, 5).flatmap(lambda d: st.lists(st.lists(SMALL, min_size=d, max_size=d), min_size=1, max_size=9)),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)
def test_small_numbers_are_as_pandas_reads_them(rows: list[list[str]], end: str, has_end: bool) -> None:
    names = [f"x{number}" for number in range(len(rows[0]))]
    header, text = lines([names], end), lines(rows, end)
    read = small_numbers(header, text if has_end else text.removesuffix(end.encode()), b",")
    assert read is not None
    assert read[0] == names
    assert read[1].dtype == np.uint8
    np.testing.assert_array_equal(read[1], pd.read_csv(io.BytesIO(header + text)).to_numpy())


@given(st.lists(st.lists(SMALL, min_size=3, max_size=3), min_size=1, max_size=9), ODD, st.data())
def test_anything_else_is_not_read(rows: list[list[str]], odd: str, data: st.DataObject) -> None:
    row, column = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, 2))
    rows[row][column] = odd
    assert small_numbers(b"a,b,c\n", lines(rows), b",") is None


@pytest.mark.parametrize(
    "rows", [[["1", "2"]], [["1", "2", "3", "4"]], [["1", "2"], ["1", "2", "3", "4"]], [["1", "2", "3"], [""]]]
)
def test_rows_of_another_length_are_not_read(rows: list[list[str]]) -> None:
    assert small_numbers(b"a,b,c\n", lines(rows), b",") is None


@pytest.mark.parametrize(
    "header",
    [b"a,a,b\n", b"a,,b\n", b'"a",b,c\n', b"\xef\xbb\xbfa,b,c\n", b"a,b,\xff\n", b"x\ra,b,c\n", b"a,b\x00,c\n"],
)
def test_names_that_pandas_would_change_are_not_read(header: bytes) -> None:
    assert small_numbers(header, b"1,2,3\n", b",") is None


def test_lines_of_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.random.default_rng(4).integers(0, 256, (500, 7))
    text = lines([list(map(str, row)) for row in numbers.tolist()])
    for size in (40, 64, 1000):
        monkeypatch.setattr("ddp_numpy.data.small_numbers._BLOCK_BYTES", size)
        read = small_numbers(b"a,b,c,d,e,f,g\n", text, b",")
        assert read is not None
        np.testing.assert_array_equal(read[1], numbers)
    monkeypatch.setattr("ddp_numpy.data.small_numbers._BLOCK_BYTES", 5)
    assert small_numbers(b"a,b,c,d,e,f,g\n", text, b",") is None, "a line is longer than a block"
