"""Traces: by hand, from real ranks, and what is refused."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_scaling_explained import ALL, PARTNERS, record

from ddp_numpy import InputError
from ddp_numpy.scaling.parts import parts_of
from ddp_numpy.scaling.recording import Record
from ddp_numpy.scaling.trace import read, steps_within_limit, write

HOSTS = ["a", "b"]


def records() -> list[Record]:
    """Rank 1 comes 2 s later to the first call, and rank 0 1 s later to the second."""
    return [
        record((100, 110, [(ALL, (105, 108))]), (110, 120, [(PARTNERS, (117, 118))])),
        record((100, 110, [(ALL, (107, 108))]), (110, 120, [(PARTNERS, (116, 118))])),
    ]


def events(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return found


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    write(path, records(), HOSTS, 1e-6)
    again, metadata = read(path)
    assert metadata["clock_error_us"] == pytest.approx(1)
    for own, other in zip(records(), again, strict=True):
        for mine, theirs in zip(own, other, strict=True):
            if mine.dtype == float:
                mine = mine - 100  # a trace begins with its first step
            np.testing.assert_allclose(mine, theirs, rtol=1e-9)
    parts = parts_of(records(), HOSTS)
    for name, value in parts_of(again, HOSTS).items():
        np.testing.assert_allclose(value, parts[name], rtol=1e-9)


def test_events_lie_within_each_other_and_arrows_within_calls(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    write(path, records(), HOSTS, 1e-6)
    spans = [event for event in events(path) if event["ph"] == "X"]
    reach = {"step": None, "update": "step", "call": "step", "part": "call"}
    for event in spans:
        if holder := reach[event["cat"]]:
            around = [
                other
                for other in spans
                if (other["cat"], other["pid"]) == (holder, event["pid"])
                and other["ts"] <= event["ts"]
                and event["ts"] + event["dur"] <= other["ts"] + other["dur"]
            ]
            assert len(around) == 1, event
    arrows = {(event["ph"], event["id"]): event for event in events(path) if event["ph"] in "sf"}
    ends = [(arrows["s", number]["pid"], arrows["f", number]["pid"]) for number in range(len(arrows) // 2)]
    assert ends == [(1, 0), (0, 1)], "from who came last to who waited"
    assert [arrows["s", number]["ts"] for number in range(2)] == [7e6, 17e6]
    names = {event["args"]["name"] for event in events(path) if event["name"] == "process_name"}
    assert names == {"rank 0 on a", "rank 1 on b"}


def test_clocks_that_are_too_far_off_make_no_trace(tmp_path: Path) -> None:
    one, other = records()
    late = other._replace(calls=other.calls + 5)
    with pytest.raises(InputError, match="calls end before all ranks came; synchronise the clocks"):
        write(tmp_path / "trace.json.gz", [one, late], HOSTS, 1e-6)
    assert not list(tmp_path.iterdir())


def test_a_trace_has_a_limit() -> None:
    assert steps_within_limit(2, 3) > 10_000
    assert steps_within_limit(1000, 3) == 28
    with pytest.raises(InputError, match="a step of 1000000 ranks has more than 400,000 events"):
        steps_within_limit(1_000_000, 3)


@pytest.mark.parametrize("what", ["torn", "no gzip", "no clocks", "other format", "no events", "rank missing"])
def test_what_is_no_trace(what: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"
    write(path, records(), HOSTS, 1e-6)
    data = path.read_bytes()
    trace = json.loads(gzip.decompress(data))
    if what == "no clocks":
        del trace["metadata"]["clock_error_us"]
    elif what == "other format":
        trace["metadata"]["format"] = "another"
    elif what == "no events":
        del trace["traceEvents"]
    elif what == "rank missing":
        trace["traceEvents"] = [event for event in trace["traceEvents"] if event["pid"] == 0]
    data = data[:50] if what == "torn" else b"{}" if what == "no gzip" else gzip.compress(json.dumps(trace).encode())
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"trace.json.gz: is no trace of this version: "):
        read(path)
