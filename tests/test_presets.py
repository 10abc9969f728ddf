"""Networks by name, by a file of one's own, and as a table."""

from pathlib import Path

import numpy as np
import pytest
from jobs import train
from tables import write_known_csv

from ddp_numpy import BatchNorm, Dense, InputError, Residual, Sequential, load_model
from ddp_numpy.nn.presets import IMAGE_PRESETS, image_shape
from ddp_numpy.nn.table import table

MINE = """
from ddp_numpy import Dense, Layer, Residual

class Twice(Layer):
    def forward(self, X, context=None):
        return 2 * X
    def backward(self, dY, input_gradient=True):
        return 2 * dY

def build(input_shape, classes):
    assert (input_shape, classes) == ((144,), 4)
    return [Dense(6), Residual(Dense(6)), Twice(), Dense(classes)]
"""


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Small square images: each label has a bright square of its own."""
    rng = np.random.default_rng(0)
    y = np.arange(120) % 4
    X = rng.integers(0, 60, (120, 12, 12))
    for label in range(4):
        X[y == label, 3 * label : 3 * label + 3, 3:9] += 150
    return write_known_csv(tmp_path / "images.csv", X.reshape(120, -1), y)


@pytest.mark.parametrize("name", IMAGE_PRESETS)
def test_a_network_by_name_learns_and_is_saved(name: str, images: Path, tmp_path: Path) -> None:
    options = ("--data", images, "--model", name, "--epochs", "3", "--batch-size", "16", "--dropout", "0.1")
    options += ("--lr", "0.1", "--momentum", "0.9") if name == "lenet5" else ("--lr", "0.02", "--momentum", "0.9")
    job = train(2, *options, "--out", "run", cwd=tmp_path)
    assert job.status == 0, job.err
    model = load_model(tmp_path / "run" / "model.npz")
    rows = np.loadtxt(images, delimiter=",", skiprows=1)
    assert (model.predict(rows[:, 1:]) == rows[:, 0]).mean() > 0.9


def test_tiny_is_tiny() -> None:
    model = Sequential(*IMAGE_PRESETS["tiny"](10, (28, 28, 1), 0.0))
    model.build((784,))
    assert model.params.size <= 8000


STAGES = " ".join(2 * ["Conv2D BatchNorm ReLU Conv2D BatchNorm MaxPool2D ReLU"])


@pytest.mark.parametrize(
    ("network", "layers"),
    [
        (
            ("--model", "cnn", "--augment-shift", "1"),
            f"Reshape Augment Dropout {STAGES} Flatten Dense ReLU Dense",
        ),
        (("--hidden", "8,4"), "Dropout Dense BatchNorm ReLU Dense BatchNorm ReLU Dense"),
    ],
)
def test_normalization_and_dropout_of_the_input_are_put_between_the_layers(
    network: tuple[str, ...], layers: str, images: Path, tmp_path: Path
) -> None:
    options = ("--data", images, *network, "--batch-norm", "--input-dropout", "0.1")
    job = train(2, *options, "--epochs", "1", "--batch-size", "16", "--out", "run", cwd=tmp_path)
    assert job.status == 0, job.err
    model = load_model(tmp_path / "run" / "model.npz")
    assert " ".join(type(layer).__name__ for layer in model.layers) == layers


@pytest.mark.parametrize("name", ["resnet8", "tiny"])
def test_what_has_batch_normalization_gets_no_other(name: str, images: Path, tmp_path: Path) -> None:
    job = train(2, "--data", images, "--model", name, "--batch-norm", "--out", "run", cwd=tmp_path)
    assert job.status != 0
    assert job.err == "error: --batch-norm: the network has batch normalization already; leave the option out\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("numbers", "shape"), [(784, (28, 28, 1)), (3072, (32, 32, 3)), (1, (1, 1, 1)), (3, (1, 1, 3)), (12, (2, 2, 3))]
)
def test_the_shape_of_images(numbers: int, shape: tuple[int, ...]) -> None:
    assert image_shape(numbers) == shape


def test_rows_that_are_no_images() -> None:
    with pytest.raises(InputError, match="rows of 10 numbers are no square images"):
        image_shape(10)


def test_a_file_of_ones_own_makes_the_network(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    job = train(2, "--data", images, "--model-file", "mine.py", "--epochs", "1", "--out", "run", cwd=tmp_path)
    assert job.status == 0, job.err
    assert "144 -> 6 [-> 6 + X] Twice -> 4 softmax" in job.out
    (tmp_path / "elsewhere").mkdir()
    again = ("--resume", "../run", "--out", "../run", "--model-file", "../mine.py")
    job = train(None, *again, "--epochs", "2", cwd=tmp_path / "elsewhere")
    assert job.status == 0, job.err
    job = train(None, "--resume", "run", "--epochs", "3", cwd=tmp_path)
    assert job.status == 2
    assert "can't go on with other settings: model was" in job.err
    assert "was there a --model-file?" in job.err
    (tmp_path / "mine.py").write_text(MINE.replace("Twice(), ", ""))
    job = train(None, *again, "--epochs", "3", cwd=tmp_path / "elsewhere")
    assert job.status == 2
    assert "can't go on with other settings: model was" in job.err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "error: --model-file mine.py: No such file or directory"),
        ("x = 1", "error: --model-file mine.py: has no function build(input_shape, classes)"),
        (
            "build = lambda shape, classes: 3",
            "error: --model-file mine.py: build must return a list of layers, not int",
        ),
        (
            "build = lambda shape, classes: [3]",
            "error: --model-file mine.py: build must return a list of layers, not l",
        ),
        ("build = lambda shape, classes: []", "error: the model maps"),
        ("\udcff", "error: --model-file mine.py: is not a file of Python code, in UTF-8"),
    ],
)
def test_a_file_that_makes_no_network(text: str | None, words: str, images: Path, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "mine.py").write_bytes(text.encode(errors="surrogateescape"))
    job = train(2, "--data", images, "--model-file", "mine.py", "--quiet", cwd=tmp_path)
    assert job.status == 2
    assert [line[: len(words)] for line in job.error_lines] == [words]


def test_an_error_in_ones_own_file_shows_its_line(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def build(input_shape, classes):\n    return 1 / 0\n")
    job = train(None, "--data", images, "--model-file", "mine.py", "--quiet", cwd=tmp_path)
    assert job.status == 1
    assert 'mine.py", line 2, in build' in job.err


def test_batch_normalization_of_a_batch_of_one_row_is_one_line(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from ddp_numpy import *\nbuild = lambda shape, classes: [Dense(6), BatchNorm(), Dense(classes)]\n"
    )
    job = train(2, "--data", images, "--model-file", "mine.py", "--batch-size", "19", "--quiet", cwd=tmp_path)
    assert job.status == 2
    (line,) = job.error_lines
    assert line.startswith(
        "error: layer 2 (BatchNorm) needs 2 rows in a batch, and with --batch-size 19 the last has 1"
    )


def test_describe_prints_a_table_and_trains_nothing(images: Path, tmp_path: Path) -> None:
    job = train(2, "--data", images, "--model", "lenet5", "--describe", cwd=tmp_path)
    assert job.status == 0
    lines = job.out.splitlines()
    assert lines[0].split() == ["layer", "output", "parameters", "FLOPs", "a", "row", "activations"]
    assert lines[2].split() == [
        "2",
        "conv",
        "5x5",
        "->",
        "6",
        "12",
        "x",
        "12",
        "x",
        "6",
        "156",
        "43,200",
        "108.0",
        "KiB",
    ]
    assert not (tmp_path / "runs").exists()


def test_layers_within_layers_have_lines_of_their_own() -> None:
    model = Sequential(Residual(Dense(4), BatchNorm(), shortcut=[Dense(4)]), Dense(2))
    model.build((3,))
    assert table(model, 100) == [
        "   layer        output  parameters  FLOPs a row           activations",
        "1  Residual     4                0            0               1.6 KiB",
        "2    -> 4       4               16           24               1.6 KiB",
        "3    BatchNorm  4                8            4               1.6 KiB",
        "4    -> 4       4               16           24               1.6 KiB",
        "5  -> 2         2               10           16               0.8 KiB",
        "   all                          50           68  7.0 KiB for 100 rows",
    ]
