"""Steps of all ranks in the Trace Event Format, for Perfetto (ui.perfetto.dev) and Chrome, and read again.

Each rank is a process, and all times are of rank 0's clock. A step holds its updates and its collective calls, and a
call its waiting and its moving. Arrows lead from the rank that came last to a call to those that waited for it.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, open_regular
from ddp_numpy.comm.whereabouts import Among
from ddp_numpy.nn import Array
from ddp_numpy.scaling.parts import last_came, parts_of
from ddp_numpy.scaling.recording import Record

_FORMAT = "ddp_numpy trace 1"
_MOST_EVENTS = 400_000  # some 60 MB without compression, which browsers still show
_OF_A_CALL = 4  # events: itself, waiting, moving, and half of an arrow
_IMPOSSIBLE = 0.01  # the share of calls that may have an impossible order
_LARGEST_BYTES = 2**30


def steps_within_limit(ranks: int, calls: float) -> int:
    """How many steps a trace may have, of so many calls each. Raises InputError if not even one."""
    steps = int(_MOST_EVENTS / (ranks * (2 + _OF_A_CALL * calls)))
    if not steps:
        raise InputError(f"--trace: a step of {ranks} ranks has more than {_MOST_EVENTS:,} events; trace fewer ranks")
    return steps


def write(path: Path, records: Sequence[Record], hosts: Sequence[str], clock_error: float) -> None:
    """Write a trace, of each rank's record and host. clock_error: of the ranks' clocks, in seconds, at most.

    Raises InputError if the clocks can't be compared well enough, or the file can't be written.
    """
    parts = parts_of(records, hosts)
    if parts["impossible"] > _IMPOSSIBLE * parts["calls"]:
        raise InputError(
            f"--trace: by the hosts' clocks {parts['impossible']} of {parts['calls']} calls end before all ranks came; "
            "synchronise the clocks, or trace the ranks of one host"
        )
    metadata = {"format": _FORMAT, "clock_error_us": clock_error * 1e6, "hosts": list(hosts), "parts": parts}
    trace = {"displayTimeUnit": "ns", "metadata": metadata, "traceEvents": list(_events(records, hosts))}
    try:
        with atomic_write(path) as file:
            file.write(gzip.compress(json.dumps(trace).encode(), mtime=0))
    except OSError as error:
        raise InputError(f"--trace {path}: can't write: {error.strerror or error}") from error


def read(path: Path) -> tuple[list[Record], dict[str, Any]]:
    """The records of each rank, and the metadata. Raises InputError for another file, or if no clocks were compared."""
    try:
        with open_regular(path) as file:
            data = zlib.decompressobj(31).decompress(file.read(_LARGEST_BYTES), _LARGEST_BYTES)
        trace = json.loads(data)
        metadata, events = trace["metadata"], trace["traceEvents"]
        if metadata["format"] != _FORMAT:
            raise ValueError(f"its format is {metadata['format']}")
        if "clock_error_us" not in metadata:
            raise ValueError("its clocks were not compared")
        records = [_record(rank, events) for rank in range(len(metadata["hosts"]))]
        if not all(len(record.steps) == len(records[0].steps) > 0 for record in records):
            raise ValueError("ranks have no steps, or not as many")
        return records, metadata
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except (KeyError, TypeError, IndexError, ValueError, RecursionError, zlib.error) as error:
        raise InputError(f"{path}: is no trace of this version: {error}") from None


def _events(records: Sequence[Record], hosts: Sequence[str]) -> Iterator[dict[str, Any]]:
    start = min(float(record.steps[0, 0]) for record in records)
    began, ended = (np.array([record.calls[:, part] for record in records]) for part in (0, -1))
    last = last_came(began, records[0].among, hosts)
    reached = np.clip(last, began, ended)  # by clocks that are a bit off, a call may end before the last rank came
    for rank, (record, host) in enumerate(zip(records, hosts, strict=True)):
        yield {"ph": "M", "name": "process_name", "pid": rank, "args": {"name": f"rank {rank} on {host}"}}
        yield {"ph": "M", "name": "process_sort_index", "pid": rank, "args": {"sort_index": rank}}
        for number, (first, end) in enumerate(record.steps):
            yield _span(rank, "step", "step", first, end, start, number=number)
        for (first, end), number in zip(record.updates, record.step_of_update, strict=True):
            yield _span(rank, "update", "update", first, end, start, step=int(number))
        for number, kind in enumerate(record.among):
            among, step = Among(kind).name.lower(), int(record.step_of_call[number])
            first, middle, end = began[rank, number], reached[rank, number], ended[rank, number]
            yield _span(rank, "call", f"call among {among}", first, end, start, among=among, step=step)
            yield _span(rank, "part", "waiting", first, middle, start)
            yield _span(rank, "part", "moving", middle, end, start)
    for number, (rank, call) in enumerate(zip(*np.nonzero((began < last) & (last <= ended)), strict=True)):
        moment = last[rank, call]
        late = int(np.flatnonzero(began[:, call] == moment)[0])  # the rank that came at this very moment
        common = {"name": "waits for", "cat": "wait", "id": number, "tid": 0, "ts": float(moment - start) * 1e6}
        yield common | {"ph": "s", "pid": late}
        yield common | {"ph": "f", "bp": "e", "pid": int(rank)}


def _span(rank: int, category: str, name: str, begin: float, end: float, start: float, **more: Any) -> dict[str, Any]:
    return {
        "ph": "X", "name": name, "cat": category, "pid": rank, "tid": 0, "ts": float(begin - start) * 1e6,
        "dur": float(end - begin) * 1e6, "args": more,
    }  # fmt: skip


def _record(rank: int, events: Sequence[dict[str, Any]]) -> Record:
    """What a rank has noted, in seconds from the beginning of the trace."""
    own = [event for event in events if event["ph"] == "X" and event["pid"] == rank]

    def bounds(category: str) -> Array:
        found = [(event["ts"], event["ts"] + event["dur"]) for event in own if event["cat"] == category]
        return np.array(found).reshape(-1, 2) / 1e6

    def values(category: str, name: str) -> list[Any]:
        return [event["args"][name] for event in own if event["cat"] == category]

    return Record(
        bounds("step"),
        bounds("update"),
        np.array(values("update", "step"), int),
        bounds("call"),
        np.array([Among[name.upper()] for name in values("call", "among")], np.int8),
        np.array(values("call", "step"), int),
    )
