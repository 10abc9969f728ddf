"""Compares speeds measured in one run, as ratios. On a noisy machine ratios are more reliable than seconds.

python -m benchmarks.peers --data data/train.csv --json peers.json
python -m benchmarks.peers --network cnn --batches 64,256
"""

import concurrent.futures
import contextlib
import importlib.util
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

_TIMEOUT = 300

# (name, goals at batch 64, 256 and 1024) in the order of the table. `ratios` computes them from medians.
_GOALS: dict[str, tuple[float | None, ...]] = {
    "matrix products / step, 1 rank": (0.80, 0.87, 0.90),
    "images/s, 2 ranks / 1": (1.6, 1.85, None),
    "the ceiling: two one-rank jobs of half the batch at once / one": (None, None, None),
    "images/s, 4 ranks / 2": (0.65, 0.8, 0.9),
    "images/s over PyTorch, 1 rank": (2.0, 2.0, 1.4),
    "images/s over PyTorch DDP, 2 ranks": (12, 5.5, 3),
    "sum and update, Allreduce / node-shared, 2 ranks": (4, None, None),
    "images/s, reproducible / fast, 1 rank": (0.97, 1, 1.03),
    "images/s, reproducible / fast, 2 ranks": (1.15, 1.05, 1.05),
    "images/s, reproducible / fast, 4 ranks": (0.95, 0.95, 0.95),
    "images/s, reproducible / fast of --before, 1 rank": (0.97, 1, 1.03),
    "images/s, reproducible / fast of --before, 2 ranks": (1.15, 1.05, 1.05),
    "KiB that a step allocates, 1 rank": (4, None, None),
}
# The same of networks for images, of which not all figures of the other are taken.
_IMAGE_GOALS: dict[str, tuple[float | None, ...]] = {
    "images/s, 2 ranks / 1": (1.8, 1.8, None),
    "images/s over PyTorch, 1 rank": (1.1, 0.85, None),
    "images/s over PyTorch DDP, 2 ranks": (1.8, 1.3, None),
    "images/s, reproducible / fast, 1 rank": (0.95, 0.95, None),
    "images/s, reproducible / fast, 2 ranks": (0.95, 0.95, None),
    "KiB that a step allocates, 1 rank": (16, 16, None),
}
_BATCHES = (64, 256, 1024)

Job = Callable[..., dict[str, float]]
"""(data, batch size, seconds to measure) -> medians in seconds."""

Measured = dict[tuple[str, int], dict[str, float]]
"""(name of the job, batch size) -> medians over rounds, in seconds."""


def numpy_job(
    ranks: int,
    sums: str = "auto",
    threads: int = 1,
    reproducible: bool = False,
    exchange: str = "gradients",
    network: str = "mlp",
) -> Job:
    """A function that measures this package."""

    def run(data: str, batch: int, seconds: float) -> dict[str, float]:
        command = [sys.executable, "-m", "launch", "run", "-n", str(ranks), "--threads", str(threads)]
        options = ["--data", data, "--batch-size", str(batch), "--seconds", str(seconds), "--comm", sums]
        options += ["--exchange", exchange, "--network", network, *(["--reproducible"] if reproducible else [])]
        return _result([*command, "-m", "benchmarks.step", *options], {})

    return run


def job_before(ranks: int, folder: Path) -> Job:
    """A function that measures the fast step of another version of this package, checked out in a folder."""

    def run(data: str, batch: int, seconds: float) -> dict[str, float]:
        command = [sys.executable, "-m", "launch", "run", "-n", str(ranks), "-m", "benchmarks.step", "--data", data]
        command += ["--batch-size", str(batch), "--seconds", str(seconds)]
        return _result(command, {"PYTHONPATH": str(folder)}, folder)

    return run


def half_a_batch(job: Job, at_once: int) -> Job:
    """A function that measures this many of a job at once, each of half the batch. The slowest counts."""

    def run(data: str, batch: int, seconds: float) -> dict[str, float]:
        with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
            found = list(threads.map(lambda _: job(data, batch // 2, seconds), range(at_once)))
        return max(found, key=lambda figures: figures["step"])

    return run


def torch_job(ranks: int, network: str = "mlp", channels_last: bool = False) -> Job:
    """A function that measures PyTorch. channels_last: its memory layout of images."""

    def run(data: str, batch: int, seconds: float) -> dict[str, float]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        options = ["--data", data, "--batch-size", str(batch), "--seconds", str(seconds), "--network", network]
        options += ["--channels-last"] if channels_last else []
        command = [sys.executable, "-m", "benchmarks.torch_ddp", *options]
        settings = {"WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        with contextlib.ExitStack() as others:
            for rank in range(1, ranks):
                env = {**os.environ, **settings, "RANK": str(rank)}
                other = others.enter_context(subprocess.Popen(command, env=env))
                others.callback(_end, other)
            return _result(command, {**settings, "RANK": "0"})

    return run


def loading_figures(data: str, rounds: int) -> dict[str, float]:
    """The time to read the data and the memory to keep it, as medians over rounds. Each name contains its goal."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder) / "few.csv"
        row = ",".join(["255"] * 784)
        few.write_text("\n".join(["label," + row.replace("255", "x"), *(f"{k % 10},{row}" for k in range(100))]) + "\n")
        few_cached = {"XDG_CACHE_HOME": folder}
        _result(_loading_job(str(few), 1), few_cached)  # fills the cache: parsing would take memory of its own
        for number in range(rounds):
            figures, first_read = {}, {}
            for ranks in (1, 2):
                settings = {"XDG_CACHE_HOME": f"{folder}/{number}-{ranks}"}
                first_read[ranks] = _result(_loading_job(data, ranks), settings)["seconds"]
            if data.endswith(".csv"):
                figures["first read of the data, 1 rank / 2 (goal 1.7)"] = first_read[1] / first_read[2]
            for ranks in (1, 2, 4):
                whole = _result(_loading_job(data, ranks), settings)
                small = _result(_loading_job(str(few), ranks), few_cached)
                count = f"{ranks} ranks" if ranks > 1 else "1 rank"
                name = f"copies of the data in memory, {count} (goal 1.1)"
                figures[name] = (whole["pss"] - small["pss"]) / whole["bytes"]
            start = time.time()
            first_step = _result(_loading_job(data, 2), settings)["first_step"] - start
            start = time.time()
            subprocess.run([sys.executable, "-c", "from mpi4py import MPI"], check=True)
            name = "seconds to the first step of 2 ranks, data cached, less a bare start of MPI (goal 1.0)"
            figures[name] = first_step - (time.time() - start)
            for name, value in figures.items():
                found.setdefault(name, []).append(value)
    return {name: statistics.median(values) for name, values in found.items()}


def _loading_job(data: str, ranks: int) -> list[str]:
    command = [sys.executable, "-m", "launch", "run", "-n", str(ranks), "-m", "benchmarks.loading"]
    return [*command, "--data", data]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Wait a while for a rank to end with the others, then kill it: no rank may stay."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(10)
    process.kill()


def _result(command: list[str], settings: dict[str, str], folder: Path | None = None) -> dict[str, float]:
    env = {**os.environ, **settings}
    done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def ratios(measured: Measured, batch: int) -> dict[str, float | None]:
    """The table's ratios at one batch size; None for a ratio whose parts were not measured."""

    def of(who: str, part: str) -> float | None:
        return measured.get((who, batch), {}).get(part)

    def pytorch(who: str) -> float | None:
        """The faster of its two memory layouts of images."""
        steps = [step for layout in ("", ", channels last") if (step := of(f"{who}{layout}", "step"))]
        return min(steps, default=None)

    def ratio(a: float | None, b: float | None, times: int = 1) -> float | None:
        return times * a / b if a and b else None

    values = (
        ratio(of("1 rank", "products"), of("1 rank", "step")),
        ratio(of("1 rank", "step"), of("2 ranks", "step")),
        ratio(of("half the batch, 1 rank", "step"), of("half the batch, 1 rank, two at once", "step"), times=2),
        ratio(of("2 ranks", "step"), of("4 ranks", "step")),
        ratio(pytorch("PyTorch, 1 rank"), of("1 rank", "step")),
        ratio(pytorch("PyTorch DDP, 2 ranks"), of("2 ranks", "step")),
        ratio(of("2 ranks, Allreduce", "sum_and_update"), of("2 ranks", "sum_and_update")),
        ratio(of("1 rank, reproducible", "fast_step"), of("1 rank, reproducible", "step")),
        ratio(of("2 ranks, reproducible", "fast_step"), of("2 ranks, reproducible", "step")),
        ratio(of("4 ranks, reproducible", "fast_step"), of("4 ranks, reproducible", "step")),
        ratio(of("1 rank, before", "step"), of("1 rank, reproducible", "step")),
        ratio(of("2 ranks, before", "step"), of("2 ranks, reproducible", "step")),
        ratio(of("1 rank", "allocated"), 1024),
    )
    return dict(zip(_GOALS, values, strict=True))


@click.command()
@click.option("--data", default="digits", show_default=True)
@click.option("--network", type=click.Choice(["mlp", "small-cnn", "cnn"]), default="mlp", show_default=True)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Interleaved; medians count.")
@click.option("--seconds", default=2.0, show_default=True, help="For each measurement.")
@click.option("--batches", default=",".join(map(str, _BATCHES)), show_default=True)
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    help="Compare with another version of this package, checked out there.",
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures there.")
def main(
    data: str,
    network: str,
    rounds: int,
    seconds: float,
    batches: str,
    before: Path | None,
    json_file: Path | None,
) -> None:
    """Measure this package and PyTorch DDP in turn, and print Markdown tables of images/s and of ratios."""
    goals = _GOALS if network == "mlp" else _IMAGE_GOALS
    jobs: dict[str, Job] = image_jobs(network)
    if network == "mlp":
        jobs = {
            "1 rank": numpy_job(1),
            "1 rank, 2 BLAS threads": numpy_job(1, threads=2),
            "2 ranks": numpy_job(2),
            "2 ranks, Allreduce": numpy_job(2, sums="allreduce"),
            "4 ranks": numpy_job(4),
            "1 rank, reproducible": numpy_job(1, reproducible=True, exchange="auto"),
            "2 ranks, reproducible": numpy_job(2, reproducible=True, exchange="auto"),
            "4 ranks, reproducible": numpy_job(4, reproducible=True, exchange="auto"),
            "half the batch, 1 rank": half_a_batch(numpy_job(1), at_once=1),
            "half the batch, 1 rank, two at once": half_a_batch(numpy_job(1), at_once=2),
            "PyTorch, 1 rank": torch_job(1),
            "PyTorch DDP, 2 ranks": torch_job(2),
        }
    if before is not None:
        data = str(Path(data).resolve()) if Path(data).exists() else data
        jobs |= {"1 rank, before": job_before(1, before), "2 ranks, before": job_before(2, before)}
    if not importlib.util.find_spec("torch"):
        jobs = {who: job for who, job in jobs.items() if not who.startswith("PyTorch")}
        click.echo("torch is not installed (pip install 'ddp_numpy[bench]'): measuring the rest.\n")
    sizes = [int(size) for size in batches.split(",")]
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    for _ in range(rounds):
        for batch in sizes:
            for who, job in jobs.items():
                found.setdefault((who, batch), []).append(job(data, batch, seconds))
    measured: Measured = {
        key: {part: statistics.median(run[part] for run in runs) for part in runs[0]} for key, runs in found.items()
    }
    whole = [who for who in jobs if not who.startswith("half the batch")]
    speeds = [[who, *(f"{batch / measured[who, batch]['step']:,.0f}" for batch in sizes)] for who in whole]
    _print_table(["images/s", *map(str, sizes)], speeds)
    cells = {batch: ratios(measured, batch) for batch in sizes}
    rows = [[name, *(_cell(cells[batch][name], goals[name], batch) for batch in sizes)] for name in goals]
    _print_table(["ratio", *map(str, sizes)], rows)
    loading: dict[str, float] = {}
    if network == "mlp":
        loading = loading_figures(data, rounds)
        _print_table(["the data", "figure"], [[name, f"{value:.2f}"] for name, value in loading.items()])
    spread = statistics.median(max(r["step"] for r in runs) / min(r["step"] for r in runs) for runs in found.values())
    click.echo(f"Medians of {rounds} interleaved rounds; slowest / fastest round: {spread:.2f} (median).")
    if json_file is not None:
        report: dict[str, Any] = loading | {f"{who}, batch {batch}": runs for (who, batch), runs in found.items()}
        json_file.write_text(json.dumps(report, indent=1) + "\n")


def image_jobs(network: str) -> dict[str, Job]:
    """What is measured of a network for images."""
    jobs: dict[str, Job] = {}
    for ranks, who in ((1, "1 rank"), (2, "2 ranks")):
        peer = "PyTorch" if ranks == 1 else "PyTorch DDP"
        jobs |= {
            who: numpy_job(ranks, network=network),
            f"{who}, reproducible": numpy_job(ranks, reproducible=True, exchange="auto", network=network),
            f"{peer}, {who}": torch_job(ranks, network),
            f"{peer}, {who}, channels last": torch_job(ranks, network, channels_last=True),
        }
    return jobs


def _cell(value: float | None, goals: tuple[float | None, ...], batch: int) -> str:
    goal = dict(zip(_BATCHES, goals, strict=True)).get(batch)
    return "–" if value is None else f"{value:.2f}" + (f" (goal {goal:g})" if goal else "")


def _print_table(head: list[str], rows: list[list[str]]) -> None:
    click.echo(f"| {' | '.join(head)} |\n{'| --- ' * len(head)}|")
    for row in rows:
        click.echo(f"| {' | '.join(row)} |")
    click.echo()


if __name__ == "__main__":
    main()
