"""Starts a small job and judges the facts that its ranks find: what would go wrong, and what to do about it."""

import dataclasses
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from launch.errors import LaunchError
from launch.job import Process
from launch.options import Launch, rank_program
from launch.signals import Signals

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"
_JOB_SECONDS = 120.0
_MIB = 2**20
# Shared memory per rank on its host, in bytes: MPI's own buffers fit into NEEDED; larger messages fit into WANTED too.
_SHARED_MEMORY_NEEDED, _SHARED_MEMORY_WANTED = 16 * _MIB, 64 * _MIB

Facts = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the doctor's table."""

    status: str
    title: str
    found: str
    remedy: str = ""


def examine(launch: Launch, data: Path | None, signals: Signals) -> tuple[list[Check], list[dict[str, float]]]:
    """Start a small job on these ranks and hosts.

    Returns its checks, and its Allreduce figures: bytes, seconds, algbw and busbw (B/s).
    """
    job = launch.job(rank_program(launch.flavour, "ddp_numpy.probe", ("--data", str(data)) if data else (), None))
    try:
        launch.reach(job, signals)
    except LaunchError as error:
        return [Check(FAIL, "hosts", error.message)], []
    with Process(launch.command(job), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as started:
        try:
            with signals.waiting():
                out, err = started.process.communicate(timeout=_JOB_SECONDS)
        except subprocess.TimeoutExpired:
            remedy = "the ranks start but don't meet: check firewalls, and the network interface that MPI takes"
            return [Check(FAIL, "job", f"no end in {_JOB_SECONDS:g} s", remedy)], []
    if started.process.returncode:
        return [_failed_job(err.decode(errors="replace"), started.process.returncode)], []
    try:
        found = json.loads(out)
    except ValueError:
        return [_failed_job(out.decode(errors="replace"), 0)], []
    ranks: list[Facts] = found["ranks"]
    title = f"{ranks[0]['mpi'] or 'one process'}, {_count(len(ranks), 'rank')}"
    return [Check(PASS, "mpirun and mpi4py", title), *judge(ranks)], _bandwidths(found["allreduce"], len(ranks))


def judge(ranks: list[Facts]) -> Iterator[Check]:
    """Turn the facts of all ranks, as ddp_numpy.probe prints them, into checks."""
    yield from _versions(ranks)
    yield from _cores(ranks)
    yield from _shared_memory(ranks)
    yield from _names(ranks)
    yield from _data(ranks)


def _failed_job(said: str, status: int) -> Check:
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    if errors and "mpi4py" in errors[0]:
        found, _, remedy = errors[0].partition(": ")
        return Check(FAIL, "mpirun and mpi4py", found, remedy)
    last = errors or [line for line in lines if "Error" in line] or lines or ["nothing said"]
    return Check(FAIL, "job", f"ended with status {status}: {last[0]}", "run it with `launch run` to see all it says")


def _versions(ranks: list[Facts]) -> Iterator[Check]:
    for name in ranks[0]["versions"]:
        found = _hosts_by(ranks, lambda facts, name=name: facts["versions"][name])  # type: ignore[misc]
        if len(found) == 1:
            yield Check(PASS, name, next(iter(found)))
        else:
            yield Check(FAIL, name, _differing(found), "install the same version on all hosts")


def _cores(ranks: list[Facts]) -> Iterator[Check]:
    for host, there in _by_host(ranks).items():
        threads, cores = sum(facts["threads"] for facts in there), max(facts["cores"] for facts in there)
        found = f"{host}: {_count(len(there), 'rank')}, {_count(threads, 'thread')}, {_count(cores, 'core')}"
        if threads > cores:
            yield Check(WARN, "cores", found, "more threads than cores are slower than fewer: lower -n or --threads")
        else:
            yield Check(PASS, "cores", found)


def _shared_memory(ranks: list[Facts]) -> Iterator[Check]:
    for host, there in _by_host(ranks).items():
        free = there[0]["shared_memory_bytes"]
        if free is None:
            yield Check(WARN, "/dev/shm", f"{host}: has none", "ranks of a host then talk more slowly")
            continue
        a_rank = free / len(there)
        status = PASS if a_rank >= _SHARED_MEMORY_WANTED else WARN if a_rank >= _SHARED_MEMORY_NEEDED else FAIL
        found = f"{host}: {free / _MIB:,.0f} MiB free for {_count(len(there), 'rank')}"
        yield Check(status, "/dev/shm", found, "" if status == PASS else "enlarge it (docker run --shm-size=1g)")


def _names(ranks: list[Facts]) -> Iterator[Check]:
    missing = {(facts["host"], name) for facts in ranks for name in facts["unresolved_hosts"]}
    if missing:
        found = ", ".join(f"{host} does not know {name}" for host, name in sorted(missing))
        # If hosts only fail to find their own names, this is a warning: a job on one host needs no name.
        status = FAIL if any(host != name for host, name in missing) else WARN
        yield Check(status, "host names", found, "add the names to DNS or to /etc/hosts")
    else:
        yield Check(PASS, "host names", ", ".join(_by_host(ranks)))


def _data(ranks: list[Facts]) -> Iterator[Check]:
    found = _hosts_by(ranks, lambda facts: facts["data_sha256"])
    (first, *others) = found
    if first is None:
        return
    if others or len(first) != 64:
        yield Check(FAIL, "data", _differing(found), "give all hosts the same file under the same path")
    else:
        yield Check(PASS, "data", f"SHA-256 {first[:16]}… everywhere")


def _bandwidths(times: list[dict[str, float]], ranks: int) -> list[dict[str, float]]:
    """Add algbw (bytes / seconds) and busbw (algbw * 2 (n-1) / n), in bytes/s, as nccl-tests defines them."""
    rows = []
    for row in times:
        algbw = row["bytes"] / row["seconds"]
        rows.append({**row, "algbw": algbw, "busbw": algbw * 2 * (ranks - 1) / ranks})
    return rows


def _by_host(ranks: list[Facts]) -> dict[str, list[Facts]]:
    """The facts of the ranks on each host."""
    found: dict[str, list[Facts]] = {}
    for facts in ranks:
        found.setdefault(facts["host"], []).append(facts)
    return found


def _hosts_by(ranks: list[Facts], key: Callable[[Facts], Any]) -> dict[Any, list[str]]:
    """The hosts for each value of the key, in the order of ranks.

    Example: if ranks 0 and 1 on host a have "3.12" and rank 2 on host b has "3.11":
    {"3.12": ["a", "a"], "3.11": ["b"]}.
    """
    found: dict[Any, list[str]] = {}
    for facts in ranks:
        found.setdefault(key(facts), []).append(facts["host"])
    return found


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _differing(found: dict[Any, list[str]]) -> str:
    return "; ".join(f"{value} on {', '.join(dict.fromkeys(hosts))}" for value, hosts in found.items())
