"""Jobs over several hosts, each with its own name, address and shared memory."""

import itertools
import json
import re
import shlex
import signal
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from exchanging import NETWORKS, assert_same, weights, weights_alone
from jobs import STAY, Job, gone_within, left_of, run_job, staying
from namespaces import Cluster
from several import train_several
from tables import classified_rows, write_known_csv

from ddp_numpy import load_model


def write_table(folder: Path) -> None:
    write_known_csv(folder / "t.csv", *classified_rows(203, features=20))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_table(tmp_path)
    return tmp_path


def launch(
    cluster: Cluster, *arguments: str | Path, cwd: Path, timeout: float = 60, env: dict[str, str] | None = None
) -> Job:
    return run_job(None, "-m", "launch", arguments[0], "--mpi-args", cluster.mpi_args, *arguments[1:], cwd=cwd,
                   timeout=timeout, env=env)  # fmt: skip


COMPARED = ("--epochs", "2", "--dtype", "float64", "--lr", "0.1", "--exchange", "gradients")
# Ranks on each of two hosts, options, and what the header then says of the exchange.
EXCHANGED: list[tuple[int, tuple[str, ...], str]] = [
    (
        2,
        ("--reproducible", "--batch-size", "16"),
        "(factors, gathered on|slices of gradients, summed between) 2 nodes; reproducible, in micro-shards of 16 rows",
    ),
    # Of larger batches, factors are much more bytes than this network's gradient.
    (
        2,
        ("--reproducible",),
        "slices of gradients, summed between 2 nodes; reproducible, in micro-shards of 16 rows",
    ),
    (2, ("--exchange", "factors"), "factors, gathered on 2 nodes"),
    (2, ("--exchange", "slices"), "slices of gradients, summed between 2 nodes"),
    (2, ("--exchange", "gradients"), "gradients"),
    (2, (), "(factors, gathered on|slices of gradients, summed between) 2 nodes"),
    # With one rank a node, a slice is the whole gradient.
    (1, (), "(factors, gathered on 2 ranks|gradients)"),
    (1, ("--optimizer", "lars", "--batch-size", "200"), "gradients"),
]

Trainings = dict[tuple[int, tuple[str, ...]], tuple[Job, Path]]
"""By the ranks on each of two hosts and the options: how a training ended, and its folder."""


@pytest.fixture(scope="module")
def trainings(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Trainings:
    """What two hosts train, in one job for each number of ranks."""
    found: Trainings = {}
    for ranks in (1, 2):
        hosts = ",".join(f"{host}:{ranks}" for host in cluster.hosts[:2])
        folders: dict[tuple[str, ...], Path] = {}
        for options in (COMPARED, *(options for of, options, _ in EXCHANGED if of == ranks)):
            folders[options] = tmp_path_factory.mktemp("run")
            write_table(folders[options])
        commands = {
            " ".join(options): (folder, ("--data", "t.csv", "--epochs", "1", *options, "--out", "run"))
            for options, folder in folders.items()
        }
        launched = ("--hosts", hosts, "--mpi-args", cluster.mpi_args)
        jobs = train_several(2 * ranks, commands, launch=launched).values()
        found |= {
            (ranks, options): (job, folder / "run")
            for (options, folder), job in zip(folders.items(), jobs, strict=True)
        }
    return found


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The weights that one process trains."""
    folder = tmp_path_factory.mktemp("alone")
    write_table(folder)
    job = run_job(None, "-m", "ddp_numpy.train", "--data", "t.csv", *COMPARED, "--out", "one", cwd=folder)
    assert job.status == 0, job.err
    return load_model(folder / "one" / "model.npz").params


def assert_two_hosts_trained(job: Job, out: Path, ranks: int, cluster: Cluster, sums: str, alone: np.ndarray) -> None:
    """This as one process does, and that they said how they did it."""
    a, b, _ = cluster.hosts
    assert job.status == 0, job.err
    assert f"{ranks} on {a}, {b}; " in job.out
    assert f"sums by {sums}\n" in job.out
    assert np.abs(load_model(out / "model.npz").params - alone).max() <= 1e-12 * np.abs(alone).max()


@pytest.mark.parametrize(
    ("ranks", "sums"),
    [(2, "node-shared memory, Allreduce between 2 nodes"), (1, "Allreduce, as each node has one rank")],
)
def test_two_hosts_train_what_one_rank_does(
    ranks: int, sums: str, cluster: Cluster, trainings: Trainings, alone: np.ndarray
) -> None:
    assert_two_hosts_trained(*trainings[ranks, COMPARED], 2 * ranks, cluster, sums, alone)


def test_so_do_the_hosts_of_a_hostfile_with_unlike_slots(cluster: Cluster, folder: Path, alone: np.ndarray) -> None:
    a, b, _ = cluster.hosts
    (folder / "hostfile").write_text(f"{a} slots=3  # first\n{b} slots=1\n")
    job = launch(cluster, "run", "--hostfile", "hostfile", "--data", "t.csv", *COMPARED, "--out", "two", cwd=folder)
    sums = "node-shared memory, Allreduce between 2 nodes"
    assert_two_hosts_trained(job, folder / "two", 4, cluster, sums, alone)


def test_hosts_with_disks_of_their_own_get_copies_of_a_large_table(cluster: Cluster, folder: Path) -> None:
    a, b, _ = cluster.hosts
    own = folder / "own"
    own.mkdir()
    options = ("--data", "t.csv", "--epochs", "1", "--reproducible")
    mapped = ("--map-above", "0", "--out", "two")
    own_cache = {"XDG_CACHE_HOME": str(own), "HOSTS_OWN_FOLDER": str(own)}
    job = launch(cluster, "run", "--hosts", f"{a}:2,{b}:2", *options, *mapped, cwd=folder, env=own_cache)
    assert job.status == 0, job.err
    assert "read by 2 ranks into a file of" in job.out
    assert not list(own.iterdir()), "the hosts' own disks were written to"
    alone = run_job(None, "-m", "ddp_numpy.train", *options, "--out", "one", cwd=folder)
    assert alone.status == 0, alone.err
    np.testing.assert_array_equal(*(load_model(folder / out / "model.npz").params for out in ("two", "one")))


def test_the_doctor_passes(cluster: Cluster, folder: Path) -> None:
    hosts = ",".join(f"{host}:1" for host in cluster.hosts[:2])
    job = launch(cluster, "doctor", "--hosts", hosts, "--data", "t.csv", "--json", cwd=folder)
    assert job.status == 0, job.out
    report = json.loads(job.out)
    assert {check["status"] for check in report["checks"]} == {"PASS"}
    found = {check["title"]: check["found"] for check in report["checks"]}
    assert found["host names"] == ", ".join(cluster.hosts[:2])
    assert [row["bytes"] for row in report["allreduce"]] == [8**power for power in range(1, 9)]
    assert all(row["busbw"] == pytest.approx(row["algbw"]) for row in report["allreduce"])  # 2 (n-1) / n for n = 2


def test_a_sweep_over_hosts(cluster: Cluster, folder: Path) -> None:
    a, b, _ = cluster.hosts
    options = ("--repeat", "1", "--seconds", "0.1", "--data", "t.csv", "--batch-size", "16", "--out", "sweep")
    job = launch(cluster, "scaling", "--ranks", "1,2", "--hosts", f"{a}:1,{b}:1", *options, cwd=folder)
    assert job.status == 0, job.err
    assert "over 1 host" in job.out
    found = [json.loads(line) for line in (folder / "sweep" / "samples.jsonl").read_text().splitlines()]
    hosts = {(sample["ranks"], sample["kind"]): sample["facts"]["hosts"] for sample in found}
    assert hosts == {(1, "alone"): [a], (1, "ranks"): [a], (2, "beside"): [a, b], (2, "ranks"): [a, b]}
    # The hosts of these tests have one clock, so what is measured of their clocks must be its error alone.
    (parts,) = [sample["parts"] for sample in found if (sample["ranks"], sample["kind"]) == (2, "ranks")]
    assert 0 < parts["clock_error"] < 0.01
    assert parts["impossible"] <= parts["calls"] / 10


@pytest.fixture
def cut_off(cluster: Cluster) -> Iterator[str]:
    """A host whose link is down."""
    host = cluster.hosts[1]
    cluster.cut(host)
    yield host
    cluster.heal(host)


@pytest.mark.parametrize("command", ["run", "doctor"])
def test_a_host_that_cannot_be_reached_is_named(command: str, cluster: Cluster, cut_off: str, folder: Path) -> None:
    start = time.monotonic()
    job = launch(cluster, command, "--hosts", f"{cluster.hosts[0]}:1,{cut_off}:1", cwd=folder, timeout=30)
    assert time.monotonic() - start < 30
    if command == "run":
        assert (job.status, job.out) == (2, "")
        assert len(job.err.splitlines()) == 1
        assert job.err.startswith(f"error: can't start a process on {cut_off}: ")
    else:
        assert job.status == 1
        assert job.out.startswith(f"FAIL  hosts              can't start a process on {cut_off}: ")


def test_a_host_that_does_not_exist_is_named(cluster: Cluster, folder: Path) -> None:
    job = launch(cluster, "run", "--hosts", f"{cluster.hosts[0]}:1,nowhere:1", cwd=folder, timeout=30)
    assert job.status == 2
    assert job.err.startswith("error: can't start a process on nowhere: ")


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_the_launchers_end_is_the_end_on_all_hosts(end: signal.Signals, cluster: Cluster, folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    hosts = ("--hosts", ",".join(f"{host}:2" for host in cluster.hosts[:2]), "--mpi-args", cluster.mpi_args)
    with staying(folder, 4, *hosts) as job:
        job.send_signal(end)
        assert gone_within(5, folder)


def test_nobody_on_any_host_sees_what_lets_a_rank_speak_to_the_launcher(cluster: Cluster, folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    hosts = ("--hosts", ",".join(f"{host}:1" for host in cluster.hosts[:2]), "--mpi-args", cluster.mpi_args)
    with staying(folder, 2, *hosts):
        # Two ranks, and what started them: the launcher, mpirun, its helper on each host, and ip, unshare and sh.
        processes = left_of(str(folder))
        found = [process.environ().get("DDP_NUMPY_LAUNCHER", "") for process in processes]
        tokens = {secret.rpartition(":")[2] for secret in found if secret}
        assert len(tokens) == 1, found
        assert len([words for words in map(psutil.Process.cmdline, processes) if "hydra_pmi_proxy" in words[0]]) == 2
        assert tokens.pop() not in str([process.cmdline() for process in processes])


def test_the_same_bits_on_one_host_and_on_two(cluster: Cluster, folder: Path) -> None:
    hosts = ",".join(f"{host}:2" for host in cluster.hosts[:2])
    options = ("--ranks", "1,3,4", "--reproducible", "--data", "t.csv", "--epochs", "2", "--lr", "0.1")
    where = f"--hosts {hosts} --mpi-args {shlex.quote(cluster.mpi_args)}"
    job = run_job(None, "-m", "ddp_numpy.verify", "--launch", where, *options, cwd=folder)
    assert job.status == 0, job.out + job.err
    assert job.out.count("equal\n") == 6
    assert job.out.endswith("EQUAL TO THE LAST BIT on 1, 3, 4 ranks\n")


@pytest.mark.parametrize("slots", [(1, 1), (3, 1), (1, 1, 1), (2, 1, 2)])
def test_exchanges_between_hosts_give_what_one_process_does(
    slots: tuple[int, ...], cluster: Cluster, tmp_path: Path
) -> None:
    hosts = ",".join(f"{host}:{count}" for host, count in zip(cluster.hosts, slots, strict=False))
    assert_same(weights(tmp_path, "--hosts", hosts, "--mpi-args", cluster.mpi_args), weights_alone())


def test_networks_of_all_layers_on_two_hosts_are_those_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    hosts = f"{cluster.hosts[0]}:2,{cluster.hosts[1]}"
    found = weights(tmp_path, "--hosts", hosts, "--mpi-args", cluster.mpi_args, script=NETWORKS)
    assert_same(found, weights_alone(NETWORKS))


@pytest.mark.parametrize(("ranks", "options", "exchange"), EXCHANGED)
def test_the_header_tells_what_is_exchanged(
    ranks: int, options: tuple[str, ...], exchange: str, trainings: Trainings
) -> None:
    job, out = trainings[ranks, options]
    assert job.status == 0, job.err
    assert re.search(rf"  exchange  {exchange}\n", job.out), job.out
    # What was tried and found quicker is kept, so that a resumed run ends as it would have ended.
    recorded = tomllib.loads((out / "config.toml").read_text())["exchange"]
    given = dict(itertools.pairwise(options)).get("--exchange")
    assert recorded == (given or ("auto" if "--reproducible" in options else exchange_of(job.out)))


def exchange_of(header: str) -> str:
    return re.search(r"  exchange  (\w+)", header)[1]  # type: ignore[index]
