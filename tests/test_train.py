"""The training command as a person uses it: its help, its files, its output."""

import json
import re
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from jobs import train
from tables import classified_rows, write_csv
from terminals import on_terminal

from ddp_numpy import SingleProcess, load_data, load_model


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "table.csv", *classified_rows(100))


def test_help_shows_groups_and_defaults_once(tmp_path: Path) -> None:
    for ranks in (None, 3):
        job = train(ranks, "--help", cwd=tmp_path)
        assert job.status == 0
        assert job.out.count("Usage: python -m ddp_numpy.train") == 1
        for group in ("Data:", "Model:", "Training:", "Output:"):
            assert group in job.out
        text = " ".join(job.out.split())
        for default in (
            "default: digits",
            "default: 128,64",
            "default: 20",
            "default: (0.01 of sgd",
            "default: (runs/<time>)",
        ):
            assert default in text


def test_a_run_leaves_its_metrics_its_options_and_its_model(table: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    job = train(2, "--data", table, "--epochs", "3", "--lr", "0.2", "--hidden", "8", "--out", out, cwd=tmp_path)
    assert job.status == 0, job.err
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints",
        "config.toml",
        "metrics.jsonl",
        "model.npz",
        "run.json",
    ]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    keys = {"epoch", "train_loss", "valid_loss", "valid_accuracy", "images_per_second", "seconds"}
    assert all(keys <= line.keys() for line in lines)
    options = tomllib.loads((out / "config.toml").read_text())
    assert options["epochs"] == 3
    assert options["lr"] == 0.2
    assert options["batch-size"] == 64
    assert options["data"] == str(table)
    model = load_model(out / "model.npz")
    _, valid = load_data(str(table), SingleProcess())
    assert np.mean(model.predict(valid.features) == valid.labels) == lines[-1]["valid_accuracy"]


def test_a_runs_options_repeat_the_run(table: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    train(None, "--data", "table.csv", "--epochs", "2", "--seed", "7", "--out", first, cwd=tmp_path)
    job = train(None, "--config", first / "config.toml", "--out", second, cwd=elsewhere)
    assert job.status == 0, job.err
    assert load_model(first / "model.npz").digest() == load_model(second / "model.npz").digest()
    assert (first / "config.toml").read_text() == (second / "config.toml").read_text()


def test_the_command_line_wins_over_the_file(table: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('epochs = 4\nbatch-size = 8\nquiet = true\ndata = "table.csv"\n')
    job = train(None, "--config", "run.toml", "--epochs", "1", "--out", "out", cwd=tmp_path)
    assert (job.status, job.out, job.err) == (0, "", "")
    options = tomllib.loads((tmp_path / "out" / "config.toml").read_text())
    assert (options["epochs"], options["batch-size"]) == (1, 8)


def test_rank_0_alone_prints(table: Path, tmp_path: Path) -> None:
    job = train(3, "--data", table, "--epochs", "2", cwd=tmp_path)
    assert job.status == 0
    assert job.err == ""
    for word in ("ranks     3 on ", "1 thread a rank", "80 rows to train, 20 to validate", "12 -> 128 ReLU -> 64 ReLU"):
        assert job.out.count(word) == 1, job.out
    assert len(re.findall(r"^ +[12]  ", job.out, re.MULTILINE)) == 2
    assert train(3, "--data", table, "--epochs", "2", "--quiet", cwd=tmp_path).out == ""
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_a_terminal_gets_a_progress_bar_and_a_pipe_gets_none(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv", *classified_rows(400))
    command = [sys.executable, "-m", "ddp_numpy.train", "--data", "t.csv", "--epochs", "4"]
    shown = on_terminal(command, tmp_path)
    assert "━" in shown
    assert re.search(r"\d+%", shown)
    assert "━" not in train(None, *command[3:], cwd=tmp_path).out
    # Open MPI's mpirun gives each rank a terminal of its own, also where its output goes to a file.
    assert "━" not in on_terminal(command, tmp_path, OMPI_COMM_WORLD_SIZE="1")
    assert "━" in on_terminal(command, tmp_path, OMPI_COMM_WORLD_SIZE="1", FORCE_COLOR="1")


def test_no_hidden_layer_is_a_linear_model(table: Path, tmp_path: Path) -> None:
    job = train(None, "--data", table, "--hidden", "", "--epochs", "1", "--out", "out", cwd=tmp_path)
    assert job.status == 0, job.err
    assert "12 -> 4 softmax: 52 parameters" in job.out
