"""What a sweep has measured of fewer ranks than are asked for, and the model that is fitted to it."""

from collections.abc import Sequence

from ddp_numpy.base.errors import InputError
from ddp_numpy.scaling.model import Job, Model, job_of
from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.samples import Sample
from ddp_numpy.scaling.statistics import median


class Basis:
    """What predictions and simulations stand on."""

    def __init__(
        self,
        sweep: Sweep,
        mode: Mode,
        samples: Sequence[Sample],
        ranks: Sequence[int],
        on_a_host: int | None,
        links: float | None,
        elsewhere: Sequence[tuple[Sequence[Sample], float | None]],
    ) -> None:
        """ranks: that are asked for; samples of as many are left aside. on_a_host: of these; None: as were measured.

        links: bits a second of the links that were measured. elsewhere: samples of other sweeps, and of what links.
        Raises InputError if the samples don't suffice.
        """
        self.sweep, self.mode, self.links, self._elsewhere = sweep, mode, links, elsewhere
        self.known = [one for one in samples if one.point.ranks < min(ranks)]
        self.model = self.fitted(self.known)
        self.rows: int = self.known[0].facts["rows"]
        """To train on."""
        jobs: dict[Job, list[float]] = {}
        for one in self.known:
            if one.point == Point(one.point.ranks, sweep.batch(mode, one.point.ranks)):
                jobs.setdefault(job_of(one), []).append(one.seconds)
        self.seconds = {job: median(jobs[job]).value for job in sorted(jobs)}
        """Of a step of each job that was measured."""
        self.on_a_host = on_a_host or max(job.on_a_host for job in jobs)

    def fitted(self, samples: Sequence[Sample]) -> Model:
        """The model of some of the samples. Raises InputError if they don't suffice."""
        return Model(samples, self.links, self._elsewhere)

    def refuse_unmeasured_links(self, ranks: int, otherwise: str = "") -> None:
        """Raise InputError if so many ranks need links between hosts, and none were measured."""
        if max(job.hosts for job in self.seconds) == 1 and ranks > self.on_a_host:
            raise InputError(
                f"{ranks} ranks, {self.on_a_host} on a host, need several hosts, and none were measured; measure "
                f"two with --hosts, or raise --ranks-per-host{otherwise}"
            )

    def job(self, ranks: int) -> Job:
        """So many ranks, on as few hosts as can be."""
        return Job(ranks, -(-ranks // self.on_a_host), self.sweep.batch(self.mode, ranks))

    def efficiency(self, job: Job, seconds: float) -> float:
        """Over one process, if a step of the job takes so many seconds."""
        return self.model.efficiency(job, seconds, self.sweep.batch_size)
