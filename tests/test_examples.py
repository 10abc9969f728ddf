"""The examples do what they say. Those with hosts, Slurm or a browser are tested in tests/cluster and tests/browser."""

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from gradcheck import directional_error
from in_examples import EXAMPLES, commands, copied, shell
from jobs import run_job, train
from layers import Entry, built

from ddp_numpy import Layer, Optimizer, SingleProcess, load_data, load_model
from ddp_numpy.deploy.drawing_page import why_not_drawn
from ddp_numpy.runs.snapshot import read_snapshot

SCRIPTS = sorted(EXAMPLES.glob("*/*.sh"))


def test_a_table_of_ones_own_gives_the_same_by_commands_and_in_python(tmp_path: Path) -> None:
    folder = copied("own_data", tmp_path)
    job = shell("-e", "-c", commands(folder / "README.md"), cwd=folder)
    assert job.status == 0, job.err
    assert "4 columns as 7 features (standardized), 3 classes: Braeburn, Gala, Granny Smith" in job.out
    assert "3 categories" in job.out, "the header lists what becomes of the columns"
    right = float(re.search(r"judged.csv: 60 rows\naccuracy ([\d.]+)%", job.out)[1])
    assert right > 80
    assert f"{right:.1f}% of judged.csv are right\n" in job.out
    predicted = (folder / "varieties.csv").read_text().splitlines()
    assert predicted[0] == "apple,variety"
    assert len(predicted) == 7
    assert job.out.endswith("\n".join(line.replace(",", ": ") for line in predicted[1:]) + "\n")
    two = run_job(2, "apples.py", cwd=folder)
    assert (two.status, job.out[-len(two.out) :]) == (0, two.out), "one process and two ranks print the same"


def test_the_tables_are_those_that_the_script_makes(tmp_path: Path) -> None:
    folder = copied("own_data", tmp_path)
    made = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    for name in made:
        (folder / name).unlink()
    assert run_job(None, "make_tables.py", cwd=folder).status == 0
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == made


@pytest.fixture(scope="module")
def prelu() -> type[Layer]:
    """The class of examples/own_layer.py."""
    found: type[Layer] = runpy.run_path(str(EXAMPLES / "own_layer.py"))["PReLU"]
    return found


def test_an_optimizer_of_ones_own_moves_by_its_rate_however_large_gradients_are() -> None:
    optimizer: Optimizer = runpy.run_path(str(EXAMPLES / "own_optimizer.py"))["AdaMax"](lr=0.1)
    params = np.zeros(3)
    optimizer.prepare(params, {"W": slice(0, 3)})
    for _ in range(4):
        optimizer.step(params, np.array([300.0, -0.02, 0.0]))
    np.testing.assert_allclose(params, [-0.4, 0.4, 0.0], rtol=1e-5)
    before = params.copy()
    # Then mean is 0.9 (1 - 0.9^4) and largest 0.999 of the gradient before.
    optimizer.step(params, np.zeros(3))
    moved = 0.1 / (1 - 0.9**5) * 0.9 * (1 - 0.9**4) / 0.999
    np.testing.assert_allclose(before - params, [moved, -moved, 0.0], rtol=1e-5)


def test_the_gradients_of_a_layer_of_ones_own(prelu: type[Layer], rng: np.random.Generator) -> None:
    model = built(Entry(prelu))
    X, weights = rng.standard_normal((2, 7, 5))

    def value() -> float:
        return float(np.vdot(model.forward(X), weights))

    value()
    dX = model.layers[0].backward(weights)
    assert dX is not None
    model.write_gradients()
    assert directional_error(value, X, dX) < 1e-6
    assert directional_error(value, model.params, model.grads.copy()) < 1e-6


def test_a_layer_of_ones_own_in_a_script(tmp_path: Path) -> None:
    one, three = (
        run_job(ranks, copied("own_layer.py", tmp_path) / "own_layer.py", cwd=tmp_path) for ranks in (None, 3)
    )
    assert (one.status, one.err) == (0, "")
    assert len(re.findall(r"^epoch [123]: accuracy [89]\d\.\d%$", one.out, re.MULTILINE)) == 3
    predicted, labels = re.search(r"the first digits: (\[.*\]); labels: (\[.*\])\n$", one.out).groups()
    assert predicted == labels
    assert three.out == one.out


def test_a_layer_of_ones_own_in_the_command(prelu: type[Layer], tmp_path: Path) -> None:
    options = ("--model-file", copied("own_layer.py", tmp_path) / "own_layer.py", "--epochs", "1", "--reproducible")
    models = []
    for ranks in (None, 3):
        job = train(ranks, *options, "--out", f"runs/{ranks}", cwd=tmp_path)
        assert job.status == 0, job.err
        models.append(load_model(tmp_path / f"runs/{ranks}", layers=[prelu]))
    assert "-> 64 PReLU(start=0.25) -> 10" in str(models[0])
    assert models[0].digest() == models[1].digest()
    used = ("--weights", "runs/3", "--data", "digits", "--model-file", "own_layer.py")
    judged, predicted = (run_job(2, "-m", f"ddp_numpy.{name}", *used, cwd=tmp_path) for name in ("evaluate", "predict"))
    assert (judged.status, predicted.status) == (0, 0), judged.err + predicted.err
    _, valid = load_data("digits", SingleProcess())
    rows = [line.split(",")[1] for line in predicted.out.splitlines()[1:]]
    assert rows == [str(label) for label in models[1].predict(valid.features)]
    right = float(np.mean(models[1].predict(valid.features) == valid.labels))
    assert f"accuracy {right:.2%} " in judged.out
    verified = run_job(None, "-m", "ddp_numpy.verify", "--ranks", "1,2", *options, cwd=tmp_path)
    assert verified.out.endswith("EQUAL TO THE LAST BIT on 1, 2 ranks\n"), verified.err
    assert "the page has no layer 'PReLU'" in str(why_not_drawn(models[1]))


def test_an_optimizer_of_ones_own(tmp_path: Path) -> None:
    copied("own_optimizer.py", tmp_path)
    one, three = (run_job(ranks, "own_optimizer.py", cwd=tmp_path) for ranks in (None, 3))
    assert (one.status, one.err) == (0, "")
    assert re.search(r"^epoch 2: accuracy [89]\d\.\d%\nweights (\w{16}), and \1 if resumed", one.out, re.MULTILINE)
    assert three.out == one.out
    snapshot = read_snapshot(tmp_path / "own_optimizer.npz")
    assert (snapshot.epoch, snapshot.step) == (1, 0)
    assert {name for name in snapshot.arrays if "optimizer" in name} == {"optimizer.mean", "optimizer.largest"}


@pytest.mark.slow
def test_a_kaggle_submission(tmp_path: Path) -> None:
    folder = copied("kaggle", tmp_path)
    train, valid = load_data("digits", SingleProcess())
    rows = np.arange(0, len(train), 6)
    write_kaggle(folder / "train.csv", train.raw(rows), train.labels[rows])
    asked = np.arange(0, len(valid), 5)
    write_kaggle(folder / "test.csv", valid.raw(asked), None)
    job = shell(*commands(folder / "README.md").split()[1:], "--epochs", "4", cwd=folder)
    assert job.status == 0, job.err
    lines = (folder / "submission.csv").read_text().splitlines()
    assert lines[0] == "ImageId,Label"
    numbers, labels = np.array([line.split(",") for line in lines[1:]], int).T
    np.testing.assert_array_equal(numbers, np.arange(1, 201))
    assert (labels == valid.labels[asked]).mean() > 0.8


def write_kaggle(path: Path, X: np.ndarray, labels: np.ndarray | None) -> None:
    """A table in the form of Kaggle's digit recognizer; without labels, it is one to predict."""
    names = [f"pixel{number}" for number in range(784)]
    lines = [",".join(names), *(",".join(map(str, row)) for row in X.tolist())]
    if labels is not None:
        lines = [f"{first},{line}" for first, line in zip(["label", *labels.tolist()], lines, strict=True)]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize(("status", "queued"), [(75, "requeue 7\n"), (0, ""), (2, "")])
def test_the_job_script_by_hand_is_queued_again_if_its_time_was_up(status: int, queued: str, tmp_path: Path) -> None:
    for name, line in (("srun", f"exit {status}"), ("scontrol", f'echo "$@" > {tmp_path}/queued')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "queued").touch()
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
    done = subprocess.run(["bash", EXAMPLES / "slurm" / "by_hand.sh"], env=env, timeout=30, check=False)
    assert done.returncode == status
    assert (tmp_path / "queued").read_text() == queued


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.parent.name)
def test_shellcheck_passes_the_scripts(script: Path) -> None:
    if not shutil.which("shellcheck"):
        pytest.skip("no shellcheck: apt-get install shellcheck")
    checked = subprocess.run(["shellcheck", script], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout


def test_the_readme_lists_every_example() -> None:
    linked = re.findall(r"^\| \[.*?\]\((.*?)\)", (EXAMPLES / "README.md").read_text(), re.MULTILINE)
    assert [path for path in linked if not (EXAMPLES / path).is_file()] == []
    there = {path.name for path in EXAMPLES.iterdir()} - {"README.md", "__pycache__"}
    assert {path.split("/")[0] for path in linked} == there
