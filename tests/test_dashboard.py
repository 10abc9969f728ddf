"""The live page of runs reads their folders, and services get the figures of a run; neither can hurt training."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from jobs import run_job
from servers import Server, serving

from ddp_numpy import InputError
from ddp_numpy.runs.beside import Tracker
from ddp_numpy.runs.watch import Watch

EPOCH = {"epoch": 1, "train_loss": 1.5, "valid_loss": 1.25, "valid_accuracy": 0.5, "lr": 0.1, "seconds": 2.0}
TRAIN = ("-m", "ddp_numpy.train", "--hidden", "8")


def write(folder: Path, *epochs: dict[str, Any], torn: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(epoch) + "\n" for epoch in epochs) + torn)
    return folder


@contextmanager
def news(server: Server) -> Iterator[Iterator[list[dict[str, Any]]]]:
    """What the server tells a page of, message by message."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("GET", "/events")
    answer = connection.getresponse()
    assert answer.getheader("Content-Type", "").startswith("text/event-stream")
    yield (json.loads(line[6:]) for line in iter(answer.readline, b"") if line.startswith(b"data: "))
    connection.close()


def only_run(watch: Watch) -> Any:
    watch.update()
    (run,) = watch.runs.values()
    return run


def test_a_torn_last_line_is_waited_for(tmp_path: Path) -> None:
    second = {**EPOCH, "epoch": 2}
    folder = write(tmp_path / "a", EPOCH, torn=json.dumps(second)[:20])
    watch = Watch([folder])
    assert only_run(watch).metrics.epochs == [EPOCH]
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps(second)[20:])
        file.flush()
        assert only_run(watch).metrics.epochs == [EPOCH]
        file.write('\n{"epoch": NaN}\nnonsense\n[1]\n{"epoch": 3, "lr": NaN}\n')
    assert only_run(watch).metrics.epochs == [EPOCH, second, {"epoch": 3, "lr": None}]
    version = only_run(watch).version
    assert only_run(watch).version == version


def test_a_run_that_goes_back_is_read_again(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", EPOCH, {**EPOCH, "epoch": 2})
    watch = Watch([tmp_path])
    assert len(only_run(watch).metrics.epochs) == 2
    (folder / "new").write_text(json.dumps({**EPOCH, "lr": 0.5}) + "\n")
    (folder / "new").rename(folder / "metrics.jsonl")
    run = only_run(watch)
    assert ([epoch["lr"] for epoch in run.metrics.epochs], run.metrics.generation) == ([0.5], 1)
    write(tmp_path / "b", EPOCH)
    watch.update()
    assert [run.name for run in watch.runs.values()] == ["a", "b"]


def test_what_is_damaged_or_hidden_is_left_out(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", EPOCH)
    for name in ("run.json", "config.toml", "progress.json", "test.json"):
        (folder / name).write_bytes(b"\xff{" * 10)
    run = only_run(Watch([folder]))
    assert (run.facts["starts"], run.facts["options"], run.facts["progress"]) == ([], {}, None)
    (folder / "config.toml").write_text("lr = inf\nmodel = 2000-01-01\nseed = nan\nepochs = 5\n")
    shown = only_run(Watch([folder])).facts["options"]
    assert shown == {"lr": "inf", "model": "2000-01-01", "seed": "nan", "epochs": 5}
    with pytest.raises(InputError, match="no folder; give those of runs, or one with runs in it"):
        Watch([tmp_path / "missing"])


def test_the_page_gets_all_and_then_what_is_new(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", EPOCH)
    with serving(tmp_path, command="dashboard") as server:
        for name in ("", "live.js", "live.css", "uPlot.iife.min.js", "uPlot-LICENSE.txt"):
            assert server.ask(f"/{name}").status == 200
        assert server.ask("/../a/metrics.jsonl").status == 404
        with news(server) as messages:
            (first,) = next(messages)
            assert (first["name"], first["from"], first["epochs"], first["status"]) == ("a", 0, [EPOCH], "stopped")
            with open(folder / "metrics.jsonl", "a") as file:
                file.write(json.dumps({**EPOCH, "epoch": 2}) + "\n")
            (second,) = next(messages)
            assert (second["from"], second["epochs"]) == (1, [{**EPOCH, "epoch": 2}])


def test_it_follows_a_job_that_it_costs_nothing(tmp_path: Path) -> None:
    """Killed and started again in the middle of a run, it shows the run again, and the run is the same."""
    (tmp_path / "runs").mkdir()
    training = subprocess.Popen(
        [sys.executable, *TRAIN, "--epochs", "100000", "--batch-size", "8", "--out", "runs/a"], cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        for _ in range(2):
            with serving(tmp_path / "runs", command="dashboard") as server, news(server) as messages:
                for message in messages:
                    told = message[0]
                    if told["progress"] and told["epochs"]:
                        break
                assert told["status"] == "running"
                assert told["progress"]["images_per_second"] > 0
                assert told["epochs"][0]["waiting"] == [0.0]
                assert told["starts"][0]["rank_hosts"] == [0]
                server.process.kill()
                server.process.wait(10)
        assert training.poll() is None
    finally:
        training.send_signal(signal.SIGTERM)
        training.wait(30)
    assert not (tmp_path / "runs" / "a" / "progress.json").exists()


@pytest.mark.parametrize("how", ["to its end", "killed"])
def test_training_shows_itself_and_takes_the_page_along(how: str, tmp_path: Path) -> None:
    epochs = "3" if how == "to its end" else "100000"
    with subprocess.Popen(
        [sys.executable, *TRAIN, "--epochs", epochs, "--out", "a", "--dashboard", "0", "--quiet"], cwd=tmp_path,
        stdout=subprocess.PIPE, text=True,
    ) as training:  # fmt: skip
        pages = []
        try:
            assert training.stdout is not None
            if how == "killed":
                line = training.stdout.readline()
                pages = psutil.Process(training.pid).children()
                assert len(pages) == 1
                server = Server(training, int(line.split("/")[2].rpartition(":")[2]))
                assert server.ask("/").status == 200
                training.kill()
            assert (training.wait(60) == 0) == (how == "to its end")
            assert not psutil.wait_procs(pages, 20)[1]
        finally:
            training.kill()
            for page in pages:
                with suppress(psutil.NoSuchProcess):
                    page.kill()


def test_a_port_that_is_taken_is_no_end_of_training(tmp_path: Path) -> None:
    with serving(tmp_path, command="dashboard") as server:
        job = run_job(None, *TRAIN, "--epochs", "1", "--out", "a", "--dashboard", str(server.port), cwd=tmp_path)
    assert job.status == 0
    assert (tmp_path / "a" / "model.npz").exists()


def test_tensorboard_gets_the_figures_in_one_file(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="no tensorboardX: make test-browser installs it")
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    job = run_job(2, *TRAIN, "--epochs", "2", "--out", "a", "--tensorboard", cwd=tmp_path)
    assert job.status == 0, job.err
    (path,) = (tmp_path / "a" / "tensorboard").iterdir()
    found = {(value.tag, event.step): value.tensor.float_val[0]
             for event in loader.EventFileLoader(str(path)).Load() for value in event.summary.value}  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()]
    assert found["valid_loss", 2] == pytest.approx(lines[1]["valid_loss"])
    assert len(found) == 2 * sum(isinstance(value, float) for value in lines[0].values())


def test_mlflow_gets_the_figures_and_a_resumed_run_goes_on_there(tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="no mlflow: make test-browser installs it")
    env = {"MLFLOW_ALLOW_FILE_STORE": "true"}
    for epochs in ("1", "2"):
        job = run_job(None, *TRAIN, "--epochs", epochs, "--out", "a", "--resume", "auto", "--mlflow",
                      (tmp_path / "m").as_uri(), cwd=tmp_path, env=env)  # fmt: skip
        assert (job.status, job.err) == (0, "")
    os.environ |= env
    client = mlflow.MlflowClient((tmp_path / "m").as_uri())
    (run,) = client.search_runs([client.get_experiment_by_name("ddp_numpy").experiment_id])
    assert (run.info.status, run.data.params["hidden"]) == ("FINISHED", "8")
    history = client.get_metric_history(run.info.run_id, "valid_accuracy")
    assert [metric.step for metric in history] == [1, 2]


def test_wandb_works_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="no wandb: make test-browser installs it")
    job = run_job(None, *TRAIN, "--epochs", "1", "--out", "a", "--wandb", cwd=tmp_path, env={"WANDB_MODE": "offline"})
    assert (job.status, job.err) == (0, "")
    assert list((tmp_path / "a" / "wandb").glob("offline-run-*/*.wandb"))


def test_a_service_that_fails_is_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="no tensorboardX: make test-browser installs it")
    (tmp_path / "sitecustomize.py").write_text(
        "import tensorboardX\ndef fail(*_): raise OSError('no space')\ntensorboardX.SummaryWriter.add_scalar = fail\n"
    )
    job = run_job(2, *TRAIN, "--epochs", "2", "--out", "a", "--tensorboard", cwd=tmp_path,
                  env={"PYTHONPATH": str(tmp_path)})  # fmt: skip
    assert job.status == 0
    assert job.err == "warning: TensorBoard: no space; it gets no more figures of this run\n"


def test_a_service_that_hangs_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ddp_numpy.runs.beside._END_SECONDS", 0.1)
    told: list[str] = []

    def start() -> Any:
        time.sleep(3)

    tracker = Tracker("Slow", start, told.append)
    tracker.epoch(EPOCH)
    tracker.close()
    assert told == ["Slow: does not answer; its last figures may be missing there"]


def test_a_missing_package_is_named_before_training(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util\nfind = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name in ('tensorboardX', 'fastapi') else find(name, *a)\n"
    )
    for option, package in ((("--tensorboard",), "tensorboardX"), (("--dashboard", "0"), "fastapi")):
        job = run_job(2, *TRAIN, *option, "--out", "a", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
        assert (job.status, job.error_lines) == (
            2, [f"error: {option[0]} needs {package}; install it with: pip install {package}"],
        )  # fmt: skip
    assert not (tmp_path / "a").exists()
