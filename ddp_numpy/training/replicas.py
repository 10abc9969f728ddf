"""Whether the ranks still hold the same: memory, a network or a library may fail without a word."""

import zlib
from collections import Counter
from collections.abc import Mapping

import numpy as np

from ddp_numpy.base.errors import ReplicaError
from ddp_numpy.comm import Communicator
from ddp_numpy.nn import Array


class ReplicaCheck:
    """Compares checksums (CRC-32) of what all ranks must hold alike, every so many steps."""

    def __init__(self, every: int = 100) -> None:
        """every: steps from one comparison to the next."""
        self.every = every

    def prepare(self, comm: Communicator, arrays: Mapping[str, Array]) -> None:
        """arrays: what is compared, by names for people."""
        self._comm, self._arrays = comm, arrays

    def compare(self, when: str) -> None:
        """Compare now. Collective.

        Raises ReplicaError, on every rank, naming the arrays that are not the same bits everywhere, and the ranks that
        have other bits than most.
        """
        # Arrays first: two small collectives take a third less than gathering objects, which only a difference needs.
        own = np.array([zlib.crc32(array.data) for array in self._arrays.values()])
        first = own.copy()
        self._comm.broadcast_(first)
        unlike = np.array([np.count_nonzero(own != first)])
        self._comm.allreduce_(unlike)
        if unlike[0]:
            checksums = self._comm.gather(own.tolist())
            self._comm.agree(self._difference(checksums, when) if checksums is not None else None)

    def _difference(self, checksums: list[list[int]], when: str) -> ReplicaError:
        """Which rank's arrays differ from those that most ranks have. checksums: of all ranks."""
        usual = Counter(map(tuple, checksums)).most_common(1)[0][0]
        odd = {rank: theirs for rank, theirs in enumerate(checksums) if tuple(theirs) != usual}
        words = [
            f"{name} on rank {rank}"
            for rank, theirs in odd.items()
            for name, a, b in zip(self._arrays, theirs, usual, strict=True)
            if a != b
        ]
        return ReplicaError(
            f"{when} ranks no longer hold the same: {', '.join(words)} differs from the other "
            f"{len(checksums) - len(odd)} ranks: suspect the memory of that host, or its MPI library"
        )
