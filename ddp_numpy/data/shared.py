"""Brings features from rank 0 to all ranks, with one copy on each host if that can be."""

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ddp_numpy.base.files import atomic_write
from ddp_numpy.data.cache import OWNER, cache_folder, remove_others, room_named
from ddp_numpy.data.mapped import Features, MappedRows

if TYPE_CHECKING:
    from ddp_numpy.comm import Communicator

_SENT_BYTES = 2**24  # of a file at a time


def share_features(features: Features | None, comm: "Communicator") -> Features:
    """The features of rank 0 (others bring None) on every rank. Collective.

    Mapped ones lie in a file. Hosts that don't see it get a copy in their own cache. Raises InputError, on every rank,
    if there is no room for that.
    """
    if not comm.broadcast(isinstance(features, MappedRows)):
        return comm.share(features if isinstance(features, np.ndarray) else None)
    mapped = features if isinstance(features, MappedRows) else None
    path, make, size = comm.broadcast((*mapped.recipe, mapped.path.stat().st_size) if mapped else (Path(), None, 0))
    places = comm.share(mapped.places if mapped else None)
    return MappedRows(_seen_here(path, size, comm), places, make)


def _seen_here(path: Path, size: int, comm: "Communicator") -> Path:
    """Where this rank sees rank 0's file of so many bytes: at its path, or else in its host's cache. Collective."""
    own = cache_folder() / "tables" / path.name
    place = next((place for place in (path, own) if _has_size(place, size)), None)
    hosts = comm.broadcast(comm.gather((socket.gethostname(), place is None))) or []
    first = {host: rank for rank, (host, lacks) in reversed([*enumerate(hosts)]) if lacks}
    if first:
        _send(path, size, own if comm.rank in first.values() else None, comm)
    return place or own


def _send(path: Path, size: int, own: Path | None, comm: "Communicator") -> None:
    """Send rank 0's file to all ranks, of which some keep it, at `own`. Collective."""
    memory, failed = np.empty(_SENT_BYTES, np.uint8), None
    with contextlib.ExitStack() as stack:
        with comm.together(), room_named(size):
            if own is not None:
                own.parent.mkdir(parents=True, exist_ok=True)
            file = None if own is None else stack.enter_context(atomic_write(own, OWNER))
            source = stack.enter_context(open(path, "rb")) if comm.rank == 0 else None
        for start in range(0, size, _SENT_BYTES):
            part = memory[: size - start]
            if source is not None:
                source.readinto(part.data)
            comm.broadcast_(part)
            try:
                if file is not None and failed is None:
                    file.write(part.data)
            except OSError as error:  # to be raised when all ranks can
                failed = error
        with comm.together(), room_named(size):
            if failed is not None:
                raise failed
            stack.close()
            if own is not None:
                remove_others([own])


def _has_size(path: Path, size: int) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == size
    return False
