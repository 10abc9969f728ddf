"""What is predicted of numbers of ranks that are not measured yet, kept beside the samples, and how true it was."""

import hashlib
import itertools
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ddp_numpy.base import schema
from ddp_numpy.base.errors import InputError
from ddp_numpy.scaling.basis import Basis
from ddp_numpy.scaling.fit import LAWS
from ddp_numpy.scaling.json_file import JsonFormat
from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.statistics import median

_FILES = "predictions-*.json"
_RESAMPLES = 200
_MOST_HOSTS = 4096  # among which numbers of ranks are searched for
_LINE: schema.Schema = {
    "mode": schema.OneOf("strong", "weak"),
    "ranks": schema.Whole(1),
    "hosts": schema.Whole(1),
    "batch_size": schema.Whole(1),
    "network": (schema.Real(0, math.inf), None),
    **{name: schema.Real(0, math.inf) for name in ("seconds", "low", "high", "efficiency", "further")},
    "by_laws": {...: schema.Real(0, math.inf)},
}
_FORMAT = JsonFormat("ddp_numpy predictions 2", {"predictions": [_LINE]}, "move it away")


class Asked(NamedTuple):
    """What is to be predicted."""

    ranks: tuple[int, ...]
    network: float | None
    """Bits a second of the links that are predicted; None: as they were measured."""
    efficiency: float
    """For which to find the most ranks."""
    within: float | None
    """Seconds for all epochs, for which to find the fewest ranks."""
    epochs: int


class Prediction(NamedTuple):
    """Of one point."""

    mode: Mode
    ranks: int
    hosts: int
    batch_size: int
    network: float | None
    """Bits a second of the links, if they are others than were measured."""
    seconds: float
    low: float
    high: float
    """Of a step, and an interval of it."""
    efficiency: float
    further: float
    """How many times as many ranks as were measured."""
    by_laws: dict[str, float]
    """The seconds by other models: see fit.py. Of no network but the measured one."""


class Outlook:
    """What a sweep's samples say of more ranks than were measured.

    The interval is that of models fitted to launches that are drawn anew from those of each repetition, made wider by
    the largest relative error of the model where it was fitted. What a model does not know of is not in it.
    """

    def __init__(self, basis: Basis, asked: Asked) -> None:
        """Raises InputError if the samples don't suffice."""
        basis.refuse_unmeasured_links(max(asked.ranks))
        self._basis, self.asked = basis, asked
        by_repetition: dict[int, list[Sample]] = {}
        for one in basis.known:
            by_repetition.setdefault(one.repetition, []).append(one)
        draw, whole = random.Random(1), list(by_repetition.values())
        self._models = [
            basis.fitted([one for own in draw.choices(whole, k=len(whole)) for one in own]) for _ in range(_RESAMPLES)
        ]
        self._error = max(
            abs(math.log(basis.model.seconds(job) / seconds)) for job, seconds in basis.seconds.items() if job.ranks > 1
        )

    def of(self, ranks: int) -> Prediction:
        """A prediction."""
        job, network = self._basis.job(ranks), self.asked.network
        seconds, known = self._basis.model.seconds(job, network), self._basis.seconds
        by_ranks = {own.ranks: median for own, median in known.items()}
        drawn = sorted(model.seconds(job, network) for model in self._models)
        wider = math.exp(self._error)
        low, high = (drawn[round(share * (len(drawn) - 1))] for share in (0.025, 0.975))
        return Prediction(
            self._basis.mode,
            ranks,
            job.hosts,
            job.batch_size,
            None if network == self._basis.links else network,
            seconds,
            min(low, seconds) / wider,
            max(high, seconds) * wider,
            self.efficiency(ranks),
            ranks / max(by_ranks),
            {name: law(by_ranks)(ranks) for name, law in LAWS.items()},
        )

    def efficiency(self, ranks: int) -> float:
        """Over one process."""
        job = self._basis.job(ranks)
        return self._basis.efficiency(job, self._basis.model.seconds(job, self.asked.network))

    @property
    def is_a_bound(self) -> bool:
        """Whether faster links may be limited by hosts, of which nothing is known: then more time may be needed."""
        links, network = self._basis.links or math.inf, self.asked.network or 0.0
        return network > links and not self._basis.model.network.hosts_are_known

    def most_ranks(self) -> int:
        """The most ranks, on full hosts, up to which it does not fall below what is asked for; 0 if one host's do."""
        full = itertools.takewhile(lambda ranks: self.efficiency(ranks) >= self.asked.efficiency, self._full_hosts())
        return max(full, default=0)

    def fewest_ranks(self) -> int | None:
        """The fewest, on full hosts, that train in the time that is asked for, if any do: these cost least."""
        return next(
            (ranks for ranks in self._full_hosts() if self.training_seconds(ranks) <= (self.asked.within or 0)), None
        )

    def training_seconds(self, ranks: int) -> float:
        """Of all epochs, validation left aside."""
        job = self._basis.job(ranks)
        steps: int = self.asked.epochs * -(-self._basis.rows // job.batch_size)
        return steps * self._basis.model.seconds(job, self.asked.network)

    def _full_hosts(self) -> Iterator[int]:
        """Numbers of ranks on 1, 2, 3 … hosts, as far as is sensible."""
        on_a_host = self._basis.on_a_host
        most = self._basis.sweep.batch_size // on_a_host if self._basis.mode == "strong" else _MOST_HOSTS
        return (hosts * on_a_host for hosts in range(1, min(most, _MOST_HOSTS) + 1))


def keep(folder: Path, predictions: Sequence[Prediction]) -> Path:
    """Write them to a file of their own, whose name has a hash of it. Raises InputError if that can't be done."""
    members = [one._asdict() for one in predictions]
    path = folder / _name(members)
    _FORMAT.write(path, predictions=members)
    return path


class Compared(NamedTuple):
    """A prediction, and what was measured afterwards."""

    prediction: Prediction
    seconds: float
    error: float
    """The prediction over it, less 1."""
    held: bool
    """Whether it lies in the interval."""
    by_laws: dict[str, float]
    """The errors of other models."""


def compared(folder: Path, sweep: Sweep, samples: Sequence[Sample]) -> list[Compared]:
    """All predictions in a folder whose points have been measured, on as many hosts and the same links.

    Raises InputError for a file that was changed.
    """
    found = []
    for path in sorted(folder.glob(_FILES)):
        for one in _read(path):
            own = [sample for sample in samples if _is_of(sample, one)]
            if not own or one.network is not None or sweep.batch(one.mode, one.ranks) != one.batch_size:
                continue
            seconds = median([sample.seconds for sample in own]).value
            laws = {name: by_law / seconds - 1 for name, by_law in one.by_laws.items()}
            held = one.low <= seconds <= one.high
            found.append(Compared(one, seconds, one.seconds / seconds - 1, held, laws))
    return found


def _is_of(sample: Sample, one: Prediction) -> bool:
    """Whether it was launched as the prediction has it."""
    return sample.point == Point(one.ranks, one.batch_size) and len(sample.facts["hosts"]) == one.hosts


def _read(path: Path) -> list[Prediction]:
    members: list[dict[str, Any]] = _FORMAT.read(path)["predictions"]
    if path.name != _name(members):
        raise InputError(f"{path}: was changed after it was written; move it away")
    return [Prediction(**one) for one in members]


def _name(members: Sequence[dict[str, Any]]) -> str:
    """Of a file with these predictions: whoever changes it afterwards is found out."""
    return _FILES.replace("*", hashlib.sha256(_FORMAT.encoded(predictions=members)).hexdigest()[:16])
