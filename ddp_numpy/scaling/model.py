"""A step of N ranks in the terms of what the code does, fitted to few ranks; and what it says of many.

    seconds = useful x imbalance + node + network

- useful: one process alone with a rank's rows, which is measured and not modelled, times what k processes on a host
  lose, 1 + sigma (k - 1), and what a rank of a job does besides, which is as much whatever its rows. If a rank is
  faster than one process alone, as where it has rested while it waited, it is so in proportion. If factors are
  gathered, each host makes products of the other hosts' rows, too, at a cost for each row.
- imbalance: the slowest of N ranks over their mean, if each draws from what was measured: see variability.py. What
  disturbs a step does not become smaller as the step does: noise is relative to the step's seconds to a power of -1
  (as long a time, whatever the step), of 0 (in proportion), or between, as it is found in one process with more and
  with fewer rows.
- node: what calls cost among k ranks of a host, a + b log2 k + c (k - 1).
- network: latency for each of the 2 log2 hosts rounds of a sum, and time for each of the 2 (hosts - 1) / hosts x bytes
  that go through a link (Thakur et al. 2005, doi:10.1177/1094342005051521); half of both for factors that are gathered.
  Both are fitted to sums of several sizes near the one that is needed: see network.py. What the calls of training take
  beyond these sums is added as it was measured.

No coefficient is negative.
"""

import math
import statistics
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.nn import Array
from ddp_numpy.scaling.fit import non_negative
from ddp_numpy.scaling.network import Network, Sum
from ddp_numpy.scaling.parts import useful
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.variability import Variability

_PIECE = 16  # latency and time of a byte are those of sums from the needed size down to this part of it


class Job(NamedTuple):
    """The ranks of a point, as the model sees them."""

    ranks: int
    hosts: int
    batch_size: int

    @property
    def on_a_host(self) -> int:
        """Ranks of the fullest host."""
        return -(-self.ranks // self.hosts)

    @property
    def rows(self) -> int:
        """Of the rank that has most."""
        return -(-self.batch_size // self.ranks)

    @property
    def rounds(self) -> int:
        """Messages one behind the other, to bring something of each host to all."""
        return math.ceil(math.log2(self.hosts))

    def through_a_link(self, nbytes: float) -> float:
        """Of so many bytes, which lie evenly on all hosts, those that each has to get."""
        return nbytes * (self.hosts - 1) / self.hosts


class _Measured(NamedTuple):
    job: Job
    useful: float
    """Seconds of a step outside collective calls: the mean over ranks."""
    calls: float
    """What a step takes beyond the useful time of its slowest rank."""
    of_ranks: Array
    """The useful seconds of each rank over the mean of those with as many rows."""
    noise: list[float]
    """Of a step: see parts.py."""
    facts: dict[str, Any]


class Model:
    """Fitted to the samples of a sweep."""

    def __init__(
        self,
        samples: Sequence[Sample],
        rate: float | None = None,
        others: Sequence[tuple[Sequence[Sample], float | None]] = (),
    ) -> None:
        """rate: of the links between hosts, in bits a second; None if it is not known.

        others: samples on links of other rates, of which only the sums are looked at. Raises InputError if the samples
        don't suffice.
        """
        alone, beside = (
            [one for one in samples if one.point.kind == kind and one.parts] for kind in ("alone", "beside")
        )
        jobs = [_measured(one) for one in samples if _is_job(one)]
        if not (alone and beside and jobs):
            raise InputError("--predict and --simulate need two ranks and more that were measured, and --explain")
        self.rate, self.more_calls = rate, 0.0
        self._rows = sorted({one.point.batch_size for one in alone})
        self._seconds = [
            statistics.median(one.seconds for one in alone if one.point.batch_size == rows) for rows in self._rows
        ]
        # What goes between hosts, if some were measured on several.
        self.summed_bytes = float(max(jobs, key=lambda own: own.job.hosts).facts["summed_bytes"])
        gathered = {own.facts["gathered_bytes"] / own.job.batch_size for own in jobs if own.job.hosts > 1}
        if len(gathered) > 1:
            raise InputError("the hosts exchanged factors in some launches only; choose an --exchange to predict from")
        self._bytes_a_row = gathered.pop() if gathered else 0.0
        self._fit_useful([(job_of(one), statistics.mean(one.parts["seconds"])) for one in beside if one.parts], jobs)
        self._fit_variability(alone, jobs)
        self._fit_calls(jobs, others)

    @property
    def several_batches(self) -> bool:
        """Whether it shows how the time of one process depends on its rows."""
        return len(self._rows) > 1

    def alone(self, rows: int) -> float:
        """Seconds of a step of one process with so many rows: on straight lines through those that were measured.

        More rows never take less time, nor fewer rows less for each of them.
        """
        known, seconds = self._rows, self._seconds
        if known[0] <= rows <= known[-1] or len(known) == 1:
            return float(np.interp(rows, known, seconds))
        near, next_ = (0, 1) if rows < known[0] else (-1, -2)  # beyond them, on the line through the nearest two
        slope = (seconds[next_] - seconds[near]) / (known[next_] - known[near])
        least = seconds[near] * min(1.0, rows / known[near])
        return max(least, seconds[near] + slope * (rows - known[near]))

    def seconds(self, job: Job, rate: float | None = None) -> float:
        """Of a step of a job. rate: of the links, if it is another."""
        most = self.useful(job) * self.variability(job).expected_largest(job.ranks)
        return most + self.node(job) + self._between(job, self.rate if rate is None else rate)

    def efficiency(self, job: Job, seconds: float, base: int) -> float:
        """Over one process with batches of base rows, if a step of the job takes so many seconds."""
        return job.batch_size / seconds / (base / self.alone(base)) / job.ranks

    def _fit_useful(self, beside: Sequence[tuple[Job, float]], jobs: Sequence[_Measured]) -> None:
        losses = [
            (seconds / self.alone(job.rows) - 1) / (job.on_a_host - 1) for job, seconds in beside if job.on_a_host > 1
        ]
        self._sigma = max(0.0, statistics.median(losses)) if losses else 0.0
        self._faster, self._besides, self._a_row = 1.0, 0.0, 0.0
        gathers = self._bytes_a_row > 0
        if like_alone := [own for own in jobs if own.job.hosts == 1 or not gathers]:
            times = statistics.median(own.useful / self.useful(own.job) for own in like_alone)
            if times < 1:
                self._faster = times
            else:
                self._besides = statistics.median(own.useful - self.useful(own.job) for own in like_alone)
        if others := [own for own in jobs if own.job.hosts > 1 and gathers]:
            costs = [(own.useful - self.useful(own.job)) / _rows_of_others(own.job) for own in others]
            self._a_row = max(0.0, statistics.median(costs))

    def useful(self, job: Job) -> float:
        """Seconds of a step of a rank outside collective calls, on average."""
        together = self.alone(job.rows) * (1 + self._sigma * (job.on_a_host - 1))
        return together * self._faster + self._besides + self._a_row * _rows_of_others(job)

    def variability(self, job: Job) -> Variability:
        """Of a job's ranks and steps."""
        return self._measured_variability.widened((self._measured_useful / self.useful(job)) ** self._power)

    def _fit_variability(self, alone: Sequence[Sample], jobs: Sequence[_Measured]) -> None:
        most = max(own.job.ranks for own in jobs)
        largest = [own for own in jobs if own.job.ranks == most]
        of_ranks = [value for own in largest for value in own.of_ranks]
        self._measured_variability = Variability(of_ranks, np.median([own.noise for own in largest], axis=0))
        self._measured_useful = statistics.median(own.useful for own in largest)
        widths: dict[int, list[float]] = {rows: [] for rows in self._rows}
        for one in alone:
            assert one.parts is not None
            noise = Variability([1.0], np.array(one.parts["noise"]))
            widths[one.point.batch_size].append(noise.expected_largest(2) - 1)
        logs = [math.log(max(statistics.median(own), 1e-9)) for own in widths.values()]
        slope = np.polyfit(np.log(self._seconds), logs, 1)[0] if self.several_batches else 0.0
        self._power = min(1.0, max(0.0, -float(slope)))

    def _fit_calls(self, jobs: Sequence[_Measured], others: Sequence[tuple[Sequence[Sample], float | None]]) -> None:
        on_one_host, several = ([own for own in jobs if (own.job.hosts > 1) == more] for more in (False, True))
        self._of_node = np.zeros(3)
        if on_one_host:
            calls = np.array([max(own.calls, 1e-9) for own in on_one_host])
            self._of_node = non_negative(np.array([_node_terms(own.job) for own in on_one_host]), calls)
        sums = _sums(jobs, self.rate)
        for samples, rate in others:
            sums += _sums([_measured(one) for one in samples if _is_job(one)], rate)
        self.network = Network(sums)
        if several:
            more = [own.calls - self.node(own.job) - self._between(own.job, self.rate) for own in several]
            self.more_calls = max(0.0, statistics.median(more))

    def node(self, job: Job) -> float:
        """What calls cost among the ranks of a host."""
        return float(np.dot(_node_terms(job), self._of_node)) if job.on_a_host > 1 else 0.0

    def _between(self, job: Job, rate: float | None) -> float:
        if job.hosts == 1:
            return 0.0
        seconds = self.more_calls
        for ways, nbytes in ((1, self.gathered_bytes(job)), (2, self.summed_bytes)):
            if nbytes:
                seconds += self.network.seconds(ways * job.rounds, ways * job.through_a_link(nbytes), rate)
        return seconds

    def gathered_bytes(self, job: Job) -> float:
        """What all hosts gather in a step; 0 if they only sum gradients."""
        return self._bytes_a_row * job.batch_size


def _sums(jobs: Sequence[_Measured], rate: float | None) -> list[Sum]:
    """What sums near the needed size, the largest, took between hosts, without what ranks of a host take for it."""
    within = {
        (own.job.ranks, size["bytes"]): size["seconds"]
        for own in jobs
        for size in own.facts["sum_seconds"]
        if own.job.hosts == 1
    }
    return [
        Sum(
            2 * own.job.rounds,
            2 * own.job.through_a_link(size["bytes"]),
            size["seconds"] - within.get((own.job.on_a_host, size["bytes"]), 0.0),
            rate,
        )
        for own in jobs
        for size in own.facts["sum_seconds"]
        if own.job.hosts > 1 and size["bytes"] * _PIECE >= own.facts["sum_seconds"][-1]["bytes"]
    ]


def job_of(sample: Sample) -> Job:
    """What was launched."""
    return Job(sample.point.ranks, len(sample.facts["hosts"]), sample.point.batch_size)


def _is_job(sample: Sample) -> bool:
    """Whether it is of several ranks, and was recorded."""
    return sample.point.kind == "ranks" and sample.point.ranks > 1 and sample.parts is not None


def _measured(sample: Sample) -> _Measured:
    parts = sample.parts
    assert parts is not None
    outside, calls = np.array(useful(parts)), float(np.mean(parts["seconds"])) - parts["slowest"]
    _, kinds = np.unique(parts["rows"], return_inverse=True)
    usual = np.bincount(kinds, outside) / np.bincount(kinds)
    return _Measured(job_of(sample), float(outside.mean()), calls, outside / usual[kinds], parts["noise"], sample.facts)


def _rows_of_others(job: Job) -> int:
    """Rows of other hosts of which each rank of a host makes its part of the products."""
    return job.rows * (job.hosts - 1)


def _node_terms(job: Job) -> list[float]:
    return [1.0, math.log2(job.on_a_host), job.on_a_host - 1.0]
