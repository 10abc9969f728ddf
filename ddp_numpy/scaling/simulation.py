"""Steps of training on as many ranks as nobody here has: when each rank is done, step by step, on any network.

What a rank does outside calls takes as long as the model says (model.py), times what is drawn for the rank and for each
step (variability.py). The ranks of a host wait for each other; then the hosts exchange, round by round: collectives.py.
A message takes the latency and the time for its bytes that were measured; a network adds links to its way and divides
its rate (topology.py).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from ddp_numpy.nn import Array
from ddp_numpy.scaling.basis import Basis
from ddp_numpy.scaling.collectives import Algorithm, allgather, allreduce
from ddp_numpy.scaling.failures import FailingJob, Failures, Interval
from ddp_numpy.scaling.model import Job, Model
from ddp_numpy.scaling.topology import Topology


class Stragglers(NamedTuple):
    """Ranks that are slow throughout."""

    share: float
    times: float
    """As much time as others take."""


class Simulated(NamedTuple):
    """The steps of a job."""

    seconds: float
    """Of a step: the time of all, divided by their number."""
    p95: float
    computing: float
    """What a rank does outside calls, on average."""
    waiting: float
    """Until the last rank comes, on average. The rest is moving."""


class Outcome(NamedTuple):
    """What is simulated of one number of ranks."""

    job: Job
    steps: Simulated
    efficiency: float
    """Over one process."""
    failures: Failures | None
    """If any are to be simulated."""
    best: Interval | None
    """Between checkpoints, then."""


class Simulating(NamedTuple):
    """What is to be simulated."""

    simulate: tuple[int, ...]
    """Numbers of ranks."""
    topology: Callable[[int], Topology]
    """From the number of hosts."""
    latency: float | None
    """Microseconds, of a message between hosts; None: as it was measured."""
    link_latency: float
    """Microseconds, of each link of a message's way beyond two."""
    algorithm: Algorithm
    steps: int
    stragglers: Stragglers | None
    host_fails: float | None
    """Hours, on average, until a host does."""
    checkpoint_seconds: float
    restart_seconds: float

    def outcomes(self, basis: Basis, rate: float | None) -> list[Outcome]:
        """Of each number of ranks. rate: of the links; None: as they were measured. Raises InputError."""
        if self.latency is None or rate is None:
            basis.refuse_unmeasured_links(max(self.simulate), ", or give --latency and --network")
        return [self._outcome(basis, basis.job(ranks), rate) for ranks in self.simulate]

    def _outcome(self, basis: Basis, job: Job, rate: float | None) -> Outcome:
        simulation = Simulation(
            basis.model,
            job,
            self.topology(job.hosts),
            rate=rate,
            latency=None if self.latency is None else self.latency / 1e6,
            link_seconds=self.link_latency / 1e6,
            algorithm=self.algorithm,
            stragglers=self.stragglers,
        )
        steps, failures, best = simulation.run(self.steps), None, None
        if self.host_fails is not None:
            failures = Failures(self.host_fails * 3600 / job.hosts, self.checkpoint_seconds, self.restart_seconds)
            best = FailingJob(failures).best()
        return Outcome(job, steps, basis.efficiency(job, steps.seconds), failures, best)


class Simulation:
    """A job whose model is known, on a network."""

    def __init__(
        self,
        model: Model,
        job: Job,
        topology: Topology,
        *,
        rate: float | None = None,
        latency: float | None = None,
        link_seconds: float = 0.0,
        algorithm: Algorithm = "halving",
        stragglers: Stragglers | None = None,
        seed: int = 1,
    ) -> None:
        """rate: of the links, in bits a second. latency: of a message, in seconds. None: as they were measured.

        link_seconds: what each link of a message's way beyond the two of the hosts adds to its latency.
        """
        self._model, self._job, self._topology = model, job, topology
        self._a_byte = model.network.of_a_byte(rate or model.rate)
        self._latency = model.network.latency if latency is None else latency
        self._link_seconds, self._algorithm = link_seconds, algorithm
        self._firsts = np.arange(0, job.ranks, job.on_a_host)
        self._draw = np.random.default_rng(seed)
        self._variability = model.variability(job)
        self._useful = model.useful(job) * self._variability.draw_ranks(self._draw, job.ranks)
        if stragglers is not None:
            slow = self._draw.choice(job.ranks, round(stragglers.share * job.ranks), replace=False)
            self._useful[slow] *= stragglers.times

    def run(self, steps: int) -> Simulated:
        """So many steps, one behind the other."""
        ends, began, times = np.zeros(self._job.ranks), 0.0, []
        computing = waiting = 0.0
        for _ in range(steps):
            useful = self._useful * self._variability.draw_noise(self._draw, self._job.ranks)
            ends += useful
            computing += float(useful.mean())
            waiting += float(ends.max() - ends.mean())
            self._exchange(ends)
            last = float(ends.max())
            times.append(last - began)
            began = last
        return Simulated(began / steps, float(np.quantile(times, 0.95)), computing / steps, waiting / steps)

    def message(self, distance: int, nbytes: float, *, all_send: bool = True) -> float:
        """Seconds of a message between hosts whose numbers differ by so much: see collectives.py."""
        path = self._topology.path(distance)
        latency = self._latency + (path.links - 2) * self._link_seconds
        return latency + nbytes * self._a_byte / (path.share if all_send else 1)

    def _exchange(self, ends: Array) -> None:
        """From when ranks come to the exchange to when they have its result, in place."""
        model, job = self._model, self._job
        of_hosts = np.maximum.reduceat(ends, self._firsts)
        of_hosts += model.node(job)
        if job.hosts > 1:
            of_hosts += model.more_calls
            if gathered := model.gathered_bytes(job):
                allgather(of_hosts, gathered, self.message)
            if model.summed_bytes:
                allreduce(of_hosts, model.summed_bytes, self.message, self._algorithm)
        ends[:] = np.repeat(of_hosts, job.on_a_host)[: job.ranks]
