"""Whether the ranks still hold the same: memory, a network or a library may fail without a word."""

import zlib
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ddp_numpy.base.errors import ReplicaError
from ddp_numpy.comm import Communicator
from ddp_numpy.nn import Array


def check_replicas(comm: Communicator, arrays: Mapping[str, Array], when: str) -> None:
    """Compare a checksum (CRC-32) of each array between the ranks. Collective.

    Raises ReplicaError, on every rank, naming the arrays that are not the same bits everywhere, and the ranks that
    have other bits than most.
    """
    # Arrays first: two small collectives take a third less than gathering objects, which only a difference needs.
    own = np.array([zlib.crc32(array.data) for array in arrays.values()])
    first = own.copy()
    comm.broadcast_(first)
    unlike = np.array([np.count_nonzero(own != first)])
    comm.allreduce_(unlike)
    if not unlike[0]:
        return
    checksums, error = comm.gather(own.tolist()), None
    if checksums is not None:
        usual = Counter(map(tuple, checksums)).most_common(1)[0][0]
        odd = {rank: theirs for rank, theirs in enumerate(checksums) if tuple(theirs) != usual}
        words = [
            f"{name} on rank {rank}"
            for rank, theirs in odd.items()
            for name, a, b in zip(arrays, theirs, usual, strict=True)
            if a != b
        ]
        error = ReplicaError(
            f"{when} ranks no longer hold the same: {', '.join(words)} differs from the other "
            f"{comm.size - len(odd)} ranks: suspect the memory of that host, or its MPI library"
        )
    comm.agree(error)
