"""Which hosts a job runs on, and how many ranks each of them gets."""

import re
from collections.abc import Iterable
from pathlib import Path

from launch.errors import LaunchError

Placement = tuple[tuple[str, int], ...]
"""(host, number of ranks there), in the order of ranks. Empty if the job stays on this host."""

_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([1-9][0-9]*))?")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\s+slots\s*=\s*([1-9][0-9]*))?")


def parse_hosts(text: str) -> list[tuple[str, int | None]]:
    """ "a:4,b" -> [("a", 4), ("b", None)]: host and slots. Raises LaunchError for any other form."""
    return _hosts((entry.strip() for entry in text.split(",")), _ENTRY, "--hosts", "a:4,b:4")


def read_hostfile(path: Path) -> list[tuple[str, int | None]]:
    """Read lines `host slots=4` or `host`, and # comments. Raises LaunchError for any other form."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LaunchError(f"{path}: can't read the hostfile: {getattr(error, 'strerror', error)}") from None
    entries = (line.split("#")[0].strip() for line in lines)
    return _hosts((entry for entry in entries if entry), _LINE, str(path), "host slots=4")


def place(hosts: list[tuple[str, int | None]], ranks: int) -> Placement:
    """Fill the hosts with ranks, in order. Raises LaunchError if the slots run out.

    If no host has slots, the hosts share evenly. If only some have, each of the others counts as one slot.
    """
    if not any(slots for _, slots in hosts):
        # Rounded up: 5 ranks on 2 hosts are 3 slots per host.
        hosts = [(name, -(-ranks // len(hosts))) for name, _ in hosts]
    placement, left = [], ranks
    for name, slots in hosts:
        here = min(left, slots or 1)
        if here:
            placement.append((name, here))
        left -= here
    if left:
        raise LaunchError(f"{ranks} ranks, but the hosts have {ranks - left} slots: raise slots or lower -n")
    return tuple(placement)


def _hosts(entries: Iterable[str], form: re.Pattern[str], where: str, example: str) -> list[tuple[str, int | None]]:
    hosts: list[tuple[str, int | None]] = []
    for entry in entries:
        match = form.fullmatch(entry)
        if match is None:
            raise LaunchError(f"{where}: {entry!r} is not a host and its slots, like {example}")
        if match[1] in (name for name, _ in hosts):
            raise LaunchError(f"{where}: host {match[1]!r} is named twice")
        hosts.append((match[1], int(match[2]) if match[2] else None))
    if not hosts:
        raise LaunchError(f"{where}: names no host; write them like {example}")
    return hosts
