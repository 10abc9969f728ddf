"""A separate stream of random numbers for each purpose. The streams are the same on every rank."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

Purpose = Literal["split", "init", "order", "dropout", "augment"]
# A purpose's position goes into its random numbers. A changed position would change every result that was published:
# add new purposes at the end, never reorder.
_PURPOSES: tuple[Purpose, ...] = get_args(Purpose)


def generator(seed: int, purpose: Purpose, *counters: int) -> np.random.Generator:
    """A generator that depends on seed, purpose and counters (for example the epoch), and on nothing else."""
    return np.random.default_rng(_sequence(seed, purpose, *counters))


def _sequence(seed: int, purpose: Purpose, *counters: int) -> np.random.SeedSequence:
    # NumPy pads short seeds with zeros, so `default_rng(7)` and `default_rng((7, 0))` are the same stream. A spawn key
    # is kept separate from the seed, so two purposes never share a stream.
    return np.random.SeedSequence(seed, spawn_key=(_PURPOSES.index(purpose), *counters))


class RowStream:
    """Random numbers of rows, which depend on the row's number in its global batch, and not on who draws them.

    Philox turns a key and a counter into random bits, without what came before (Salmon et al., SC 2011). The key comes
    from the seed, the purpose and the counters; the counter has the step, and how many numbers earlier rows have.
    """

    _BLOCK = 8
    """Numbers that Philox makes of one value of its counter."""

    def __init__(self, seed: int, purpose: Purpose, *counters: int) -> None:
        self.seed = seed
        key = _sequence(seed, purpose, *counters).generate_state(2, np.uint64)
        self._bits = np.random.Philox(key=key)
        self._generator, self._state = np.random.Generator(self._bits), self._bits.state

    @classmethod
    def whole(cls, numbers: int) -> int:
        """At least so many numbers a row, so that each row begins with a counter of its own."""
        return -(-numbers // cls._BLOCK) * cls._BLOCK

    def fill(self, out: npt.NDArray[Any], step: int, first_row: int) -> None:
        """Fill out (rows, n), of float32, with numbers in [0, 1) of rows from this one on; n as `whole` says."""
        counter: Any = self._state["state"]
        counter["counter"][...] = first_row * (out.shape[1] // self._BLOCK), 0, step, 0
        self._bits.state = self._state  # with no numbers left over from before
        self._generator.random(dtype=np.float32, out=out)
