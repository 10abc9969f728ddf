"""Simulated steps: collectives host by host, networks by hand, failures by their closed form."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import click
import numpy as np
import pytest
from test_scaling_predicted import RATE, SWEEP, basis, samples

from ddp_numpy import InputError
from ddp_numpy.scaling.collectives import Algorithm, allgather, allreduce
from ddp_numpy.scaling.failures import FailingJob, Failures, daly, young
from ddp_numpy.scaling.model import Job, Model
from ddp_numpy.scaling.options import Network, SlowRanks
from ddp_numpy.scaling.plan import Sweep
from ddp_numpy.scaling.simulation import Simulated, Simulating, Simulation, Stragglers
from ddp_numpy.scaling.table import simulation
from ddp_numpy.scaling.topology import Dragonfly, FatTree, Path, Switch, Topology
from ddp_numpy.scaling.variability import LEVELS

ALGORITHMS: tuple[Algorithm, ...] = ("doubling", "halving", "tree", "ring")
HOSTS = (1, 2, 3, 4, 5, 7, 8, 13, 16)
NBYTES = 1000.0


def cost(distance: int, nbytes: float, *, all_send: bool = True) -> float:
    """A message that takes longer the further it goes."""
    return 1 + 0.25 * math.log2(distance) + nbytes / 100


def exchanged(moments: Sequence[float], hosts: Sequence[int], nbytes: float, distance: int) -> list[float]:
    """When hosts that exchange, pair by pair, are done: hosts[i] is i's partner."""
    return [max(own, moments[other]) + cost(distance, nbytes) for own, other in zip(moments, hosts, strict=True)]


def one_by_one(moments: list[float], algorithm: Algorithm) -> list[float]:
    """The same collectives for hosts whose number is a power of two, one host at a time."""
    hosts = len(moments)
    distances = [2**power for power in range(hosts.bit_length() - 1)]
    if algorithm == "tree":
        for distance in distances:
            for host in range(0, hosts, 2 * distance):
                moments[host] = max(moments[host], moments[host + distance]) + cost(distance, NBYTES)
        for distance in reversed(distances):
            for host in range(0, hosts, 2 * distance):
                moments[host] += cost(distance, NBYTES)
                moments[host + distance] = moments[host]
        return moments
    sizes = [NBYTES if algorithm == "doubling" else NBYTES / (2 * distance) for distance in distances]
    rounds = list(zip(distances, sizes, strict=True))
    for distance, nbytes in rounds + (rounds[::-1] if algorithm == "halving" else []):
        moments = exchanged(moments, [host ^ distance for host in range(hosts)], nbytes, distance)
    return moments


@pytest.mark.parametrize("algorithm", ["doubling", "halving", "tree"])
@pytest.mark.parametrize("hosts", [1, 2, 4, 8, 16])
def test_a_sum_is_what_it_is_host_by_host(algorithm: Algorithm, hosts: int) -> None:
    moments = np.random.default_rng(hosts).random(hosts)
    expected = one_by_one(moments.tolist(), algorithm)
    allreduce(moments, NBYTES, cost, algorithm)
    np.testing.assert_allclose(moments, expected, rtol=1e-12)


@pytest.mark.parametrize("hosts", HOSTS)
def test_a_ring_is_what_it_is_step_by_step(hosts: int) -> None:
    """Each host passes on what it got before, at the same time as all others: 2 (hosts - 1) times."""
    same = lambda distance, nbytes, all_send=True: 1 + nbytes / 100  # noqa: E731
    moments = np.random.default_rng(hosts).random(hosts)
    expected = moments.tolist()
    for _ in range(2 * (hosts - 1)):
        expected = [max(own, expected[host - 1]) + same(1, NBYTES / hosts) for host, own in enumerate(expected)]
    allreduce(moments, NBYTES, same, "ring")
    assert moments.max() == pytest.approx(max(expected))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("hosts", HOSTS)
def test_nobody_is_done_before_the_last_one_came(algorithm: Algorithm, hosts: int) -> None:
    for late in range(hosts):
        moments = np.zeros(hosts)
        moments[late] = 50
        allreduce(moments, NBYTES, cost, algorithm)
        assert hosts == 1 or moments.min() > 50


@pytest.mark.parametrize("hosts", HOSTS)
def test_a_gathering_brings_all_parts_to_all(hosts: int) -> None:
    late = np.zeros(hosts)
    late[-1] = 50
    allgather(late, NBYTES, cost)
    assert hosts == 1 or late.min() > 50
    seconds = np.zeros(hosts)
    allgather(seconds, NBYTES, lambda distance, nbytes, all_send=True: nbytes)
    np.testing.assert_allclose(seconds, NBYTES * (hosts - 1) / hosts)


@pytest.mark.parametrize("gathers", [False, True])
@pytest.mark.parametrize("hosts", [1, 2, 4, 64, 1024])
def test_without_noise_a_step_is_what_the_model_says(gathers: bool, hosts: int) -> None:
    model = Model(list(samples(SWEEP, gathers)), RATE)
    job = Job(2 * hosts, hosts, 1024)
    found = Simulation(model, job, Switch()).run(3)
    assert found.seconds == pytest.approx(model.seconds(job), rel=1e-12)
    assert found.p95 == pytest.approx(found.seconds)
    assert found.waiting == pytest.approx(0, abs=1e-12)


def with_noise(of_ranks: Sequence[float] = (1.0, 1.0), noise: Any = None) -> Model:
    """The model of the made-up cluster, whose ranks differ and whose steps vary."""
    found = list(samples(SWEEP))
    for one in found:
        if one.point.ranks > 1 and one.point.kind == "ranks" and one.parts is not None:
            times = list(of_ranks) * (one.point.ranks // 2)
            one.parts["computing"] = [own * value for own, value in zip(one.parts["computing"], times, strict=True)]
            one.parts["update"] = [own * value for own, value in zip(one.parts["update"], times, strict=True)]
            one.parts["noise"] = np.ones(len(LEVELS)).tolist() if noise is None else noise.tolist()
    return Model(found, RATE)


def test_ranks_wait_for_the_slowest() -> None:
    """Numbers between 0.5 and 1.5: the largest of 8 lies at 0.5 + 8/9 on average, the largest of 1,024 near 1.5."""
    for model, largest in (
        (with_noise(noise=0.5 + LEVELS), 0.5 + 8 / 9),
        (with_noise((0.9, 1.1)), 1.1),
    ):
        job = Job(8, 4, 1024)
        found = Simulation(model, job, Switch(), seed=3).run(2000)
        assert found.computing == pytest.approx(model.useful(job), rel=0.1)
        assert found.computing + found.waiting == pytest.approx(largest * model.useful(job), rel=0.03)


def test_stragglers_hold_all_ranks_up() -> None:
    model, job = with_noise(), Job(1000, 500, 8000)
    usual = Simulation(model, job, Switch()).run(3)
    held_up = Simulation(model, job, Switch(), stragglers=Stragglers(0.001, 1.5)).run(3)
    assert held_up.seconds - usual.seconds == pytest.approx(0.5 * usual.computing, rel=0.01)


def seconds(hosts: int = 64, algorithm: Algorithm = "halving", **more: Any) -> float:
    job = Job(2 * hosts, hosts, 64 * hosts)
    return Simulation(with_noise(), job, Switch(), algorithm=algorithm, **more).run(1).seconds


def test_what_is_doubled_changes_a_step_the_right_way() -> None:
    model, job = with_noise(), Job(128, 64, 64 * 64)
    useful, node = model.useful(job), model.node(job)
    once = seconds(latency=1e-3, rate=1e15) - useful - node
    assert once == pytest.approx(2 * 6 * 1e-3, rel=1e-3)  # six rounds there, six back
    assert seconds(latency=2e-3, rate=1e15) - useful - node == pytest.approx(2 * once, rel=1e-3)
    assert seconds(128, latency=1e-3, rate=1e15) - useful - node == pytest.approx(once + 2e-3, rel=1e-3)
    by_bytes = seconds(latency=0, rate=1e6) - useful - node
    assert seconds(latency=0, rate=0.5e6) - useful - node == pytest.approx(2 * by_bytes, rel=1e-3)
    larger = with_noise()
    larger.summed_bytes *= 2
    of_larger = Simulation(larger, job, Switch(), latency=0, rate=1e6).run(1).seconds - useful - node
    assert of_larger == pytest.approx(2 * by_bytes, rel=1e-3)
    assert seconds(128, "ring", latency=1e-3, rate=1e15) / seconds(64, "ring", latency=1e-3, rate=1e15) > 1.9


def test_a_fat_tree_by_hand() -> None:
    """Of 64 ports, 32 lead to hosts: 32 on a switch, 1,024 below two levels, 32,768 below three."""
    tree = FatTree(64)
    paths = {distance: tree.path(distance) for distance in (1, 16, 32, 512, 1024, 16_384, 32_768)}
    assert paths == {
        1: Path(2, 1),
        16: Path(2, 1),
        32: Path(4, 1),
        512: Path(4, 1),
        1024: Path(6, 1),
        16_384: Path(6, 1),
        32_768: Path(8, 1),
    }
    assert FatTree(64, 3).path(1024) == Path(6, 1 / 3)  # 48 hosts on a switch, 16 links up
    assert FatTree(64, 3).path(16) == Path(2, 1)


def test_a_dragonfly_by_hand() -> None:
    """Of 15 ports, 4 lead to hosts; a group has 8 routers, 32 hosts and 32 links to others."""
    of_five = Dragonfly(15, 160)
    assert str(of_five) == "a dragonfly of 5 groups of 32 hosts"
    assert of_five.path(2) == Path(2, 1)
    assert of_five.path(4) == Path(4, 6 / 8)  # by the other six routers: one link for 4 hosts is less
    assert of_five.path(32) == Path(7, 0.5)  # to each group lead 8 links, for 32 hosts
    assert Dragonfly(15, 64).path(32) == Path(5, 1)  # all links lead to the only other group
    assert Dragonfly(15, 33 * 32).path(32) == Path(7, 0.5)
    with pytest.raises(InputError, match="dragonfly:15: has place for 1,056 hosts, not for 1,057; take routers"):
        Dragonfly(15, 1057)


def test_a_network_that_is_further_and_narrower_is_slower() -> None:
    model, job = with_noise(), Job(8192, 4096, 64 * 4096)
    made: list[Callable[[], Topology]] = [
        Switch,
        lambda: FatTree(64),
        lambda: FatTree(64, 3),
        lambda: Dragonfly(63, 4096),
    ]
    flat, tree, narrow, fly = (Simulation(model, job, make(), link_seconds=1e-6).run(1).seconds for make in made)
    assert flat < tree < min(narrow, fly)


def test_time_that_trains_is_that_of_the_closed_form() -> None:
    """Daly 2006: of exponential failures, tau exp(-R / M) / (M (exp((tau + C) / M) - 1)) trains."""
    failures = Failures(between=10_000, checkpoint=50, restart=200)
    job = FailingJob(failures)
    for tau in (200, 1000, 5000):
        exact = tau * math.exp(-0.02) / (10_000 * math.expm1((tau + 50) / 10_000))
        assert job.trained(tau) == pytest.approx(exact, rel=0.01)
    best = job.best()
    assert best.seconds == pytest.approx(daly(failures), rel=0.2)
    assert best.trains >= max(job.trained(daly(failures)), job.trained(young(failures)))
    assert best.trains < 1
    assert young(failures) == math.sqrt(2 * 50 * 10_000)


def test_daly_is_youngs_where_checkpoints_are_short() -> None:
    rare = Failures(between=1e9, checkpoint=1, restart=0)
    assert daly(rare) == pytest.approx(young(rare), rel=1e-4)
    assert daly(Failures(between=1, checkpoint=2, restart=0)) == 1


SIMULATING = Simulating((128,), lambda hosts: Switch(), None, 0.0, "halving", 10, None, 5000.0, 10.0, 60.0)


def test_what_is_printed() -> None:
    (one,) = SIMULATING.outcomes(basis(list(samples(SWEEP))), None)
    said = simulation(SIMULATING, [one])
    assert said[0] == "simulated, 10 steps each, on one switch"
    assert said[2].split()[:3] == ["128", "64", "1024"]
    assert said[3].startswith("128 ranks: a failure every 3.3 days; a checkpoint every ")


def test_links_that_nobody_measured_have_to_be_given() -> None:
    sweep = Sweep((1, 2), ("strong",), 1024, 3, explain=True)
    known = basis(list(samples(sweep)), sweep)
    with pytest.raises(InputError, match=r"none were measured; .* or give --latency and --network"):
        SIMULATING.outcomes(known, None)
    (one,) = SIMULATING._replace(latency=1000.0).outcomes(known, 1e9)
    own = known.model
    expected = own.useful(one.job) + own.node(one.job) + 12 * 1e-3 + 2 * 63 / 64 * 400_000 * 8e-9 * 1538 / 1448
    assert one.steps.seconds == pytest.approx(expected)


def test_many_ranks_are_simulated() -> None:
    found = Simulation(with_noise(), Job(200_000, 100_000, 64 * 200_000), FatTree(64), link_seconds=1e-7).run(2)
    assert isinstance(found, Simulated)
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Network, "torus"),
        (Network, "fat-tree"),
        (Network, "fat-tree:2"),
        (Network, "fat-tree:64:0.5"),
        (Network, "dragonfly:2"),
        (Network, "dragonfly:64:2"),
        (SlowRanks, "2:1"),
        (SlowRanks, "0.1"),
        (SlowRanks, "0.1:-1"),
    ],
)
def test_what_is_no_network_and_no_stragglers(kind: type[click.ParamType], value: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(click.BadParameter, match="is not"):
        kind().convert(value, None, None)


def test_options_of_a_network() -> None:
    assert str(Network().convert("fat-tree:64:3", None, None)(10)).endswith("48 of them for hosts")
    assert SlowRanks().convert("0.01:1.5", None, None) == Stragglers(0.01, 1.5)
