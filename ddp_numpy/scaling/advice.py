"""What would help the efficiency of a number of ranks, and how much, by the model that is fitted to the sweep."""

from collections.abc import Sequence
from typing import NamedTuple

from ddp_numpy.base.errors import InputError
from ddp_numpy.scaling.model import Job, Model
from ddp_numpy.scaling.plan import Mode, Sweep
from ddp_numpy.scaling.samples import Sample

_LARGER, _FASTER = (2, 4), 10


class Advice(NamedTuple):
    """A change, and what it is predicted to do."""

    change: str
    times: float
    """As high an efficiency as now."""


class Adviser:
    """The model of a sweep's samples, asked what would be better."""

    def __init__(self, sweep: Sweep, mode: Mode, samples: Sequence[Sample], links: float | None) -> None:
        """links: bits a second of those between the hosts, if that is known."""
        self._sweep, self._mode, self._links = sweep, mode, links
        self._hosts = {one.point.ranks: len(one.facts["hosts"]) for one in samples}
        self._rows = max((one.facts["rows"] for one in samples), default=0)
        self._model: Model | None = None
        try:
            self._model = Model(samples, links)
        except InputError:  # with too few samples nothing is advised
            return

    def of(self, ranks: int) -> list[Advice]:
        """What would make the efficiency of so many ranks higher, the best first."""
        if self._model is None:
            return []
        hosts, base = self._hosts[ranks], self._sweep.batch_size
        now, half = self._efficiency(ranks, hosts, base), ranks // 2
        found = []
        most = self._rows // (ranks if self._mode == "weak" else 1)
        larger = [base * times for times in _LARGER if base * times <= most]
        if self._model.several_batches and larger:
            times = self._efficiency(ranks, hosts, larger[-1]) / now
            found.append(Advice(f"with --batch-size {larger[-1]}", times))
        if half > 1:
            found.append(Advice(f"with {half} ranks", self._efficiency(half, -(-hosts // 2), base) / now))
        if hosts > 1 and self._links is not None:
            faster = self._efficiency(ranks, hosts, base, self._links * _FASTER)
            found.append(Advice("on links ten times as fast", faster / now))
        return sorted((one for one in found if one.times > 1), key=lambda one: -one.times)

    def _efficiency(self, ranks: int, hosts: int, batch_size: int, rate: float | None = None) -> float:
        """Over one process with this --batch-size; rate: of the links, if it is another."""
        assert self._model is not None
        job = Job(ranks, hosts, batch_size * (ranks if self._mode == "weak" else 1))
        return self._model.efficiency(job, self._model.seconds(job, rate), batch_size)
