"""Sweeps with real launches."""

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from jobs import JOB_SECONDS, MARK, Job, gone_within, kill, left_of, run_job
from several import Command, run_several
from tables import classified_rows, write_known_csv

from ddp_numpy.scaling.parts import parts_of
from ddp_numpy.scaling.trace import read as read_trace

SMALLEST = ("--data", "t.csv", "--repeat", "1", "--seconds", "0.1", "--batch-size", "16", "--out", "sweep")


def sweep(*arguments: str | Path, cwd: Path) -> Job:
    return run_job(None, "-m", "ddp_numpy.scaling", *arguments, cwd=cwd)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_known_csv(tmp_path / "t.csv", *classified_rows(200))
    return tmp_path


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Job, Path]:
    """How a sweep of one and two ranks ended, and the folder it started in. Tests that add to it take a copy."""
    folder = tmp_path_factory.mktemp("measured")
    write_known_csv(folder / "t.csv", *classified_rows(200))
    return sweep("--ranks", "1,2", "--mode", "both", *SMALLEST, cwd=folder), folder


@pytest.fixture
def again(measured: tuple[Job, Path], tmp_path: Path) -> tuple[str, ...]:
    """The options of a sweep that goes on with a copy of the one that is measured."""
    job, folder = measured
    assert job.status == 0, job.err
    shutil.copytree(folder / "sweep", tmp_path / "sweep")
    return (*SMALLEST, "--data", str(folder / "t.csv"))


def samples(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "sweep" / "samples.jsonl").read_text().splitlines()]


def test_the_smallest_sweep(folder: Path) -> None:
    options = ("--ranks", "1,2", "--mode", "both", "--no-explain", "--target-loss", "100", *SMALLEST)
    job = run_job(None, "-m", "launch", "scaling", *options, cwd=folder)
    assert job.status == 0, job.err
    assert "strong scaling, 16 rows in the global batch" in job.out
    assert "weak scaling, 16 rows in the batch of each rank" in job.out
    found = samples(folder)
    points = {(sample["ranks"], sample["batch_size"], sample["kind"]) for sample in found}
    assert points == {(1, 16, "alone"), (1, 16, "ranks"), (2, 16, "ranks"), (2, 32, "ranks")}
    for sample in found:
        facts = sample["facts"]
        assert isinstance(facts, dict)
        assert len(facts["ranks_on"]) == sample["ranks"]
        assert facts["epochs_to_loss"] == 1
        assert (facts["mpi"] is None) == (sample["kind"] == "alone" or sample["ranks"] == 1)
        assert str(facts["command"]).startswith("python -m ddp_numpy.scaling --ranks 1,2 --mode both")
        assert {"cpu", "kernel", "blas", "blas_threads", "versions", "commit", "command", "exchange"} <= facts.keys()
    table = (folder / "sweep" / "samples.csv").read_text().splitlines()
    assert len(table) == 1 + len(found)


def factors(out: str) -> list[dict[str, float]]:
    """For each mode the efficiency of two ranks, and its factors, as printed."""
    found = []
    for table in out.split("efficiency is the product of\n")[1:]:
        (_, *names), (_, *row) = (line.split() for line in table.splitlines()[:2])
        found.append({name: float(share.rstrip("%")) / 100 for name, share in zip(names, row, strict=True)})
    return found


SLOW = """
import os
import sys
import time

import ddp_numpy
from ddp_numpy import Dense, Layer


def burn(call):
    def slow(*arguments):
        end = time.perf_counter() + 0.005
        while time.perf_counter() < end:
            pass
        return call(*arguments)

    return slow


def build(input_shape, classes):
    layers = [Dense(classes)]
    if os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")) == "1" and "--beside" not in sys.argv:
        if PART == "update":
            ddp_numpy.SGD.step = burn(ddp_numpy.SGD.step)
        else:
            layers[0].forward = burn(layers[0].forward)
    return layers
"""


@pytest.mark.alone
@pytest.mark.parametrize(("part", "exchange"), [("computing", "gradients"), ("update", "factors")])
def test_a_rank_that_is_slowed_is_named(part: str, exchange: str, folder: Path) -> None:
    (folder / "slow.py").write_text(f"PART = {part!r}\n{SLOW}")
    options = ("--ranks", "2", "--model-file", "slow.py", "--exchange", exchange, *SMALLEST, "--seconds", "0.5")
    job = sweep(*options, cwd=folder)
    assert job.status == 0, job.err
    host = socket.gethostname()
    assert f"rank 1 on {host} takes" in job.out
    assert f"most of it in {part}." in job.out
    assert f"rank 0 on {host} takes" not in job.out
    assert factors(job.out)[0]["balance"] < 0.8
    (parts,) = [one["parts"] for one in samples(folder) if (one["ranks"], one["kind"]) == (2, "ranks")]
    assert isinstance(parts, dict)
    for found in (parts, parts["met"]):  # rank 0 waits for the 5 ms, by both ways of finding out
        assert found["waiting"][0] > 0.003 + found["waiting"][1]


def test_the_factors_multiply_to_the_efficiency(measured: tuple[Job, Path]) -> None:
    job, folder = measured
    assert job.status == 0, job.err
    points = {(sample["ranks"], sample["batch_size"], sample["kind"]) for sample in samples(folder)}
    assert points == {
        *((1, 16, "alone"), (1, 8, "alone"), (2, 16, "beside"), (2, 32, "beside")),
        *((1, 16, "ranks"), (2, 16, "ranks"), (2, 32, "ranks")),
    }
    found = factors(job.out)
    assert len(found) == 2
    for shares in found:
        efficiency = shares.pop("efficiency")
        assert math.prod(shares.values()) == pytest.approx(efficiency, rel=0.01)


def test_a_prediction_is_kept_and_compared(again: tuple[str, ...], tmp_path: Path) -> None:
    job = sweep("--ranks", "1,2", "--predict", "3,4", "--ranks-per-host", "4", *again, cwd=tmp_path)
    assert job.status == 0, job.err
    assert "predicted, from fewer ranks" in job.out
    (path,) = (tmp_path / "sweep").glob("predictions-*.json")
    assert f"predictions: {path.name}" in job.out
    job = sweep("--ranks", "4", *again, cwd=tmp_path)
    assert job.status == 0, job.err
    table = job.out.split("predicted and then measured, ms a step\n")[1]
    assert table.splitlines()[1].split()[:2] == ["strong", "4"]
    assert "of 1 lie in their interval" in table
    assert {row.split()[0] for row in job.out.split("\n\n")[0].splitlines()[2:-1]} == {"alone", "1", "2", "4"}


@pytest.mark.parametrize("exchange", ["gradients", "factors"])
def test_figures_are_equal_if_they_are_computed_again_from_a_trace(exchange: str, folder: Path) -> None:
    options = ("--ranks", "1,3", *SMALLEST, "--no-explain", "--exchange", exchange, "--quiet")
    job = sweep(*options, "--trace", "trace.json.gz", cwd=folder)
    assert job.status == 0, job.err
    records, metadata = read_trace(folder / "trace.json.gz")
    assert len(records) == 3
    assert len(records[0].steps) == 100
    again = parts_of(records, metadata["hosts"])
    assert again.keys() == metadata["parts"].keys()
    for name, value in again.items():
        np.testing.assert_allclose(value, metadata["parts"][name], rtol=1e-6, atol=1e-12)
    job = sweep(*options, "--trace", "nowhere/trace.json.gz", cwd=folder)
    assert (job.status, job.error_lines) == (2, [
        "error: --trace nowhere/trace.json.gz: there is no folder nowhere; make it first"
    ])  # fmt: skip


@pytest.mark.alone
def test_efficiency_that_fell_is_status_1(folder: Path) -> None:
    options = ("--ranks", "2", *SMALLEST, "--repeat", "3", "--no-explain")
    job = sweep(*options, cwd=folder)
    assert job.status == 0, job.err
    kept = folder / "sweep" / "efficiency.json"
    for times, status, verdict in ((1, 0, "as before"), (10, 1, "fell")):
        values = json.loads(kept.read_text())
        (point,) = values["points"]
        point["efficiencies"] = [times * own for own in point["efficiencies"]]
        (folder / "old.json").write_text(json.dumps(values))
        job = sweep(*options, "--compare", "old.json", cwd=folder)
        assert job.status == status, job.err
        assert job.out.splitlines()[-1].split()[:2] == ["strong", "2"]
        assert job.out.endswith(f"{verdict}\n")


def test_more_ranks_are_simulated(again: tuple[str, ...], tmp_path: Path) -> None:
    more = (
        "--simulate",
        "100,1000",
        "--mode",
        "weak",
        "--topology",
        "fat-tree:32",
        "--steps",
        "5",
        "--stragglers",
        "0.01:2",
    )
    job = sweep("--ranks", "1,2", *more, *again, cwd=tmp_path)
    assert job.status == 2
    assert "1000 ranks, 2 on a host, need several hosts, and none were measured" in job.err
    given = ("--latency", "2", "--network", "100gbit", "--link-latency", "0.1", "--host-fails", "9000")
    job = sweep("--ranks", "1,2", *more, *given, *again, cwd=tmp_path)
    assert job.status == 0, job.err
    said = job.out.split("simulated, 5 steps each, on a fat tree of switches with 32 ports, 16 of them for hosts\n")[1]
    assert [line.split()[:3] for line in said.splitlines()[1:3]] == [["100", "50", "1600"], ["1000", "500", "16000"]]
    assert "1000 ranks: a failure every 18.0 hours; a checkpoint every " in said


def test_a_sweep_is_started_once(folder: Path) -> None:
    job = run_job(2, "-m", "ddp_numpy.scaling", "--ranks", "1", *SMALLEST, cwd=folder)
    assert job.status == 2
    assert "error: a sweep launches its ranks itself; start it once, without mpirun" in job.err


def test_a_sweep_that_is_broken_off_goes_on(folder: Path) -> None:
    options = ("--ranks", "1,2", *SMALLEST, "--no-explain", "--seconds")
    command = [sys.executable, "-m", "ddp_numpy.scaling", *options, "0.5"]
    with subprocess.Popen(command, cwd=folder, env={**os.environ, MARK: str(folder)}) as process:
        try:
            deadline = time.monotonic() + JOB_SECONDS
            while not (folder / "sweep" / "samples.jsonl").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.5)  # the next launch is under way
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 128 + signal.SIGTERM
            assert gone_within(10, folder), "a launch stayed"
        finally:
            kill(left_of(str(folder)))
    first = samples(folder)
    assert 1 <= len(first) < 3
    job = sweep(*options, "0.5", cwd=folder)
    assert job.status == 0, job.err
    assert len(samples(folder)) == 3
    assert samples(folder)[: len(first)] == first, "nothing is measured again"
    job = sweep(*options, "2", cwd=folder)
    assert (job.status, job.error_lines) == (2, [
        "error: sweep/sweep.json: the sweep there was begun with another value of seconds; take a new folder for --out"
    ])  # fmt: skip


MISTAKES: list[tuple[tuple[str, ...], str]] = [
    (
        ("--ranks", "1,32"),
        "--ranks: 32 ranks can't share a batch of 16 rows; raise --batch-size, or take --mode weak",
    ),
    (("--ranks", "1,4", "--hosts", "localhost:2"), "4 ranks, but the hosts have 2 slots: raise slots or lower -n"),
    (("--ranks", "1,x"), "'1,x' is not numbers of ranks, like 1,2,4"),
    (("--ranks", "0"), "'0' is not numbers of ranks"),
    (("--ranks", "1", "--predict", "2", "--no-explain"), "--predict and --simulate need what --explain measures"),
    (("--ranks", "1", "--network", "1gbit"), "--network: needs --links, the rate of the links between the hosts"),
    (("--ranks", "1", "--topology", "torus"), "'torus' is not switch, fat-tree:PORTS"),
    (("--ranks", "1", "--from", "nowhere"), "nowhere: is no folder of a sweep"),
    (("--ranks", "1", "--links", "fast"), "'fast' is not a rate of a link, like 100mbit or 10gbit"),
    (("--ranks", "1", "--predict", "32"), "--predict or --simulate: 32 ranks can't share a batch of 16 rows"),
    (("--ranks", "1", "--resume", "auto"), "--resume: a sweep only measures, and saves no model"),
    (("--ranks", "1", "--batch-size", "500"), "--batch-size 500: there are only 160 rows to train on"),
    (("--ranks", "1", "--data", "no.csv"), "no.csv"),
    (("--ranks", "1", "--optimizer", "adam", "--nesterov"), "--nesterov: needs --optimizer sgd"),
]


@pytest.fixture(scope="module")
def mistaken(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], Job]:
    """How the mistakes ended. One process makes them all, each in a folder of its own."""
    commands: dict[str, Command] = {}
    for arguments, words in MISTAKES:
        folder = tmp_path_factory.mktemp("mistake")
        write_known_csv(folder / "t.csv", *classified_rows(200))
        commands[words] = (folder, (*SMALLEST, *arguments))
    jobs = run_several("ddp_numpy.scaling", commands)
    return {arguments: jobs[words] for arguments, words in MISTAKES}


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_sweeps_that_can_t_be(arguments: tuple[str, ...], words: str, mistaken: dict[tuple[str, ...], Job]) -> None:
    job = mistaken[arguments]
    assert job.status == 2
    assert len(job.error_lines) == 1
    assert words in job.error_lines[0]
    assert job.err.count("\n") == 1
