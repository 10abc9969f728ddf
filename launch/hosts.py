"""Which hosts a job runs on, and how many ranks each of them gets."""

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from launch.errors import LaunchError

Placement = tuple[tuple[str, int], ...]
"""(host, number of ranks there), in the order of ranks. Empty if the job stays on this host."""

_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?::([1-9][0-9]{0,8}))?")
_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\s+slots\s*=\s*([1-9][0-9]{0,8}))?")
_LARGEST_BYTES = 2**24  # of a hostfile: about 700,000 hosts


def parse_hosts(text: str) -> list[tuple[str, int | None]]:
    """ "a:4,b" -> [("a", 4), ("b", None)]: host and slots. Raises LaunchError for any other form."""
    return _hosts((entry.strip() for entry in text.split(",")), _ENTRY, "--hosts", "a:4,b:4")


def read_hostfile(path: Path) -> list[tuple[str, int | None]]:
    """Read lines `host slots=4` or `host`, and # comments. Raises LaunchError for any other form."""
    try:
        lines = _read_regular(path).decode().splitlines()
    except (OSError, ValueError) as error:
        raise LaunchError(f"{path}: can't read the hostfile: {getattr(error, 'strerror', error)}") from None
    entries = (line.split("#")[0].strip() for line in lines)
    return _hosts((entry for entry in entries if entry), _LINE, str(path), "host slots=4")


def place(hosts: list[tuple[str, int | None]], ranks: int) -> Placement:
    """Fill the hosts with ranks, in order. Raises LaunchError if the slots run out.

    If no host has slots, the hosts share evenly. If only some have, each of the others counts as one slot.
    """
    if not any(slots for _, slots in hosts):
        # 5 ranks on 3 hosts: one for each, and one more for the first two.
        each, more = divmod(ranks, len(hosts))
        hosts = [(name, each + (number < more)) for number, (name, _) in enumerate(hosts)]
    placement, left = [], ranks
    for name, slots in hosts:
        here = min(left, 1 if slots is None else slots)
        if here:
            placement.append((name, here))
        left -= here
    if left:
        raise LaunchError(f"{ranks} ranks, but the hosts have {ranks - left} slots: raise slots or lower -n")
    return tuple(placement)


def _hosts(entries: Iterable[str], form: re.Pattern[str], where: str, example: str) -> list[tuple[str, int | None]]:
    hosts: dict[str, int | None] = {}
    for entry in entries:
        match = form.fullmatch(entry)
        if match is None:
            raise LaunchError(f"{where}: {entry!r} is not a host and its slots, like {example}")
        if match[1] in hosts:
            raise LaunchError(f"{where}: host {match[1]!r} is named twice")
        hosts[match[1]] = int(match[2]) if match[2] else None
    if not hosts:
        raise LaunchError(f"{where}: names no host; write them like {example}")
    return list(hosts.items())


def _read_regular(path: Path) -> bytes:
    """The file's bytes. A pipe could keep the launcher waiting without end, and a device may have no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        data = file.read(_LARGEST_BYTES + 1)
    if len(data) > _LARGEST_BYTES:
        raise ValueError(f"larger than {_LARGEST_BYTES >> 20} MiB")
    return data
