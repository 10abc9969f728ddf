"""Networks as ONNX files: other runtimes say of raw rows what this package says, and the files can be read back."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from jobs import openmpi_python, run_job
from layers import LAYERS
from tables import write_csv

import ddp_numpy
from ddp_numpy import (
    GELU,
    BatchNorm,
    Conv2D,
    Dense,
    Flatten,
    InputError,
    Layer,
    Residual,
    Scale,
    Sequential,
    SingleProcess,
    Trainer,
    load_data,
    load_model,
    save_model,
)
from ddp_numpy.deploy.onnx_file import load_onnx, metadata
from ddp_numpy.deploy.onnx_graph import to_onnx
from ddp_numpy.nn import Array
from ddp_numpy.optim import Adam

TOLERANCE = 1e-5


def answers(made: onnx.ModelProto, X: np.ndarray) -> dict[str, np.ndarray]:
    """What the runtime makes of raw rows, by the names of the outputs."""
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"features": X}), strict=True))


def filled(model: Sequential, shape: tuple[int, ...], rng: np.random.Generator) -> Sequential:
    """Built, with parameters and buffers that hide no mistake."""
    model.build(shape)
    model.initialize(rng)
    model.params += rng.normal(0, 0.1, model.params.shape).astype(np.float32)
    model.buffers[...] = rng.uniform(0.5, 1.5, model.buffers.shape)
    return model


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_is_what_it_is_here(name: str, rng: np.random.Generator, tmp_path: Path) -> None:
    entry = LAYERS[name]
    model = filled(Sequential(entry.make(), Flatten(), Dense(3)), entry.shape, rng)
    model.scale = Scale(2.0)
    made = to_onnx(model, metadata(model))
    onnx.checker.check_model(made, full_check=True)
    assert (made.opset_import[0].version, made.ir_version) == ((20, 9) if "GELU" in name else (18, 8))
    X = rng.normal(0, 2, (1000, *entry.shape)).astype(np.float32)
    expected = model.logits(X)
    for rows in (1000, 64, 1):
        found = answers(made, X[:rows])
        np.testing.assert_allclose(found["logits"], expected[:rows], rtol=0, atol=TOLERANCE)
        np.testing.assert_array_equal(found["logits"].argmax(axis=1), expected[:rows].argmax(axis=1))
    np.testing.assert_allclose(answers(made, X)["probabilities"], model.predict_proba(X), rtol=0, atol=TOLERANCE)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    assert load_onnx(tmp_path / "m.onnx").digest() == model.digest()


def test_layers_of_rows_with_two_axes_are_normalized_too(rng: np.random.Generator) -> None:
    model = filled(Sequential(BatchNorm(), Flatten(), Dense(2)), (4, 3), rng)
    X = rng.normal(size=(50, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(answers(to_onnx(model, {}), X)["logits"], model.logits(X), rtol=0, atol=TOLERANCE)


def test_a_normalization_that_others_stand_beside_is_not_folded(rng: np.random.Generator) -> None:
    """Its shortcut takes what the convolution returned, without it."""
    layers = Conv2D(4), Residual(BatchNorm(), Conv2D(4), BatchNorm()), Flatten(), Dense(3)
    model = filled(Sequential(*layers), (5, 4, 3), rng)
    made = to_onnx(model, {}, folds=True)
    assert [node.op_type for node in made.graph.node].count("BatchNormalization") == 1
    X = rng.normal(size=(100, 5, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(answers(made, X)["logits"], model.logits(X), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("opset", [18, 19, 20, 21, 22])
def test_any_opset_that_is_offered(opset: int, rng: np.random.Generator) -> None:
    model = filled(Sequential(Dense(4), BatchNorm(), Dense(2)), (3,), rng)
    made = to_onnx(model, {}, opset)
    onnx.checker.check_model(made, full_check=True)
    assert made.opset_import[0].version == opset
    X = rng.normal(size=(20, 3)).astype(np.float32)
    np.testing.assert_allclose(answers(made, X)["logits"], model.logits(X), rtol=0, atol=TOLERANCE)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the bundled digits."""
    folder = tmp_path_factory.mktemp("digits")
    job = run_job(2, "-m", "ddp_numpy.train", "--epochs", "3", "--out", "run", cwd=folder)
    assert job.status == 0, job.err
    return folder


def test_the_command_writes_all_that_the_network_is(digits: Path) -> None:
    job = run_job(None, "-m", "ddp_numpy.export", "--weights", "run", "m.onnx", cwd=digits)
    assert job.status == 0, job.err
    assert "opset 18, ir_version 8" in job.out
    made, model = onnx.load(digits / "m.onnx"), load_model(digits / "run")
    _, valid = load_data("digits", SingleProcess())
    found = answers(made, valid.features.astype(np.float32))
    np.testing.assert_allclose(found["logits"], model.logits(valid.features), rtol=0, atol=TOLERANCE)
    texts = {entry.key: entry.value for entry in made.metadata_props}
    assert json.loads(texts["class_names"]) == list("0123456789")
    train, _ = load_data("digits", SingleProcess())
    assert texts["data_sha256"] == train.sha256()
    last = json.loads((digits / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert float(texts["valid_accuracy"]) == last["valid_accuracy"]
    assert texts["version"] == ddp_numpy.__version__
    again = load_onnx(digits / "m.onnx")
    np.testing.assert_array_equal(again.logits(valid.features), model.logits(valid.features))
    assert again.trained == model.trained
    assert again.description() == model.description()


def test_a_checkpoint_tells_which_rows_trained_it_and_another_training_forgets(digits: Path) -> None:
    model, best = load_model(digits / "run"), load_model(digits / "run" / "checkpoints" / "best.npz")
    assert best.trained["data_sha256"] == model.trained["data_sha256"]
    assert (best.trained["epoch"] > 0, best.trained["step"]) == (True, 0)
    train, _ = load_data("digits", SingleProcess())
    Trainer(best, Adam(), SingleProcess(), batch_size=512).train(train, None, 1)
    assert best.trained == {}


def test_columns_are_scaled_inside_and_named(tmp_path: Path, rng: np.random.Generator) -> None:
    """Dates in seconds are so large that they need float64; and a label may be a number."""
    X = np.c_[1.7e9 + rng.integers(0, 86_400, 300), rng.normal(3, 0.01, 300)]
    y = 5e4 + (X[:, 0] - 1.7e9) + 1e5 * X[:, 1]
    (tmp_path / "t.csv").write_text(
        "when,size,price\n" + "".join(f"{a:.0f},{b:.6f},{c:.3f}\n" for (a, b), c in zip(X, y, strict=True))
    )
    train, _ = load_data(str(tmp_path / "t.csv"), SingleProcess(), label_column="price", task="regress")
    model = Sequential(Dense(8), Dense(1))
    Trainer(model, Adam(lr=0.02), SingleProcess(), batch_size=30).train(train, None, 10)
    made = to_onnx(model, metadata(model))
    onnx.checker.check_model(made, full_check=True)
    X = train.features.astype(np.float64)
    predictions = answers(made, X)["predictions"]
    assert predictions.shape == (len(X),)
    np.testing.assert_allclose(predictions, model.predict(X), rtol=1e-6)
    assert np.corrcoef(predictions, train.labels)[0, 1] > 0.9
    texts = {entry.key: entry.value for entry in made.metadata_props}
    assert json.loads(texts["feature_names"]) == ["when", "size"]
    assert "class_names" not in texts


class Twice(Layer):
    """A layer of one's own."""

    def forward(self, X: Array, context: object = None) -> Array:
        return 2 * X


def test_what_can_not_be_exported_is_refused(digits: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    with pytest.raises(InputError, match=r"layer 1 \(Twice\) is not of this package"):
        to_onnx(filled(Sequential(Twice(), Dense(2)), (3,), rng), {})
    with pytest.raises(InputError, match="opset 17: must be from 18 to 22"):
        to_onnx(load_model(digits / "run"), {}, 17)
    model = filled(Sequential(Dense(2), GELU()), (3,), rng)
    save_model(model, tmp_path / "gelu.npz")
    job = run_job(None, "-m", "ddp_numpy.export", "--weights", "gelu.npz", "--opset", "18", "m.onnx", cwd=tmp_path)
    assert (job.status, job.error_lines) == (2, ["error: opset 18 has no GELU; take 20"])
    assert not (tmp_path / "m.onnx").exists()
    command = ("-m", "ddp_numpy.export", "--weights", digits / "run", "m.onnx")
    job = run_job(None, *command, cwd=tmp_path, python=openmpi_python())
    assert (job.status, job.error_lines) == (2, ["error: exporting needs onnx; install it with: pip install onnx"])


@pytest.mark.parametrize("model", ["mlp", pytest.param("resnet8", marks=pytest.mark.slow)])
def test_whole_numbers_of_8_bits_say_nearly_the_same(model: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime.quantization")
    options = ("--epochs", "1", "--optimizer", "adam", "--model", model, "--out", "run")
    assert run_job(2, "-m", "ddp_numpy.train", *options, cwd=tmp_path).status == 0
    job = run_job(None, "-m", "ddp_numpy.export", "--weights", "run", "--int8", "m.onnx", cwd=tmp_path)
    assert job.status == 0, job.err
    made, _ = onnx.load(tmp_path / "m.onnx"), load_data("digits", SingleProcess())
    kinds = {tensor.data_type for tensor in made.graph.initializer if tensor.name.endswith("W_quantized")}
    assert kinds == {onnx.TensorProto.INT8}
    _, valid = load_data("digits", SingleProcess())
    found = answers(made, valid.features.astype(np.float32))["logits"].argmax(axis=1)
    expected = load_model(tmp_path / "run").predict(valid.features)
    right, expected_right = ((classes == valid.labels).mean() for classes in (found, expected))
    assert abs(right - expected_right) <= 0.01
    assert f"int8: {(tmp_path / 'm.onnx').stat().st_size:,} bytes, accuracy {right:.2%} on 1,000 rows" in job.out
    trained = load_model(tmp_path / "run")
    assert (tmp_path / "m.onnx").stat().st_size < 0.3 * to_onnx(trained, metadata(trained)).ByteSize()
    with pytest.raises(InputError, match=r"m.onnx: was not written by this package, or in 8 bits"):
        load_onnx(tmp_path / "m.onnx")
    if model != "mlp":
        return
    refusals = {"run/model.npz": "is no run's folder", "run": "these are not the rows that the run was trained on"}
    for weights, words in refusals.items():
        config = tmp_path / "run" / "config.toml"
        config.write_text(config.read_text().replace('data = "digits"', f'data = "{write_rows(tmp_path)}"'))
        job = run_job(None, "-m", "ddp_numpy.export", "--weights", weights, "--int8", "other.onnx", cwd=tmp_path)
        assert job.status == 2
        assert words in job.error_lines[0]
        assert not (tmp_path / "other.onnx").exists()


def write_rows(folder: Path) -> Path:
    """Rows of images that are no digits."""
    return write_csv(folder / "rows.csv", np.arange(784 * 40).reshape(40, 784) % 251, np.arange(40) % 10)


def test_files_of_others_and_damaged_ones_are_not_read_back(tmp_path: Path, rng: np.random.Generator) -> None:
    model = filled(Sequential(Dense(4), Dense(2)), (3,), rng)
    made = to_onnx(model, metadata(model))
    whole, path = made.SerializeToString(), tmp_path / "m.onnx"

    def refused(data: bytes, words: str) -> None:
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"m.onnx: .*{words}"):
            load_onnx(path)

    refused(b"no protobuf", "damaged, or no ONNX file|was not written by this package")
    refused(whole[: len(whole) // 2], "damaged, or no ONNX file|was not written by this package|holds no network")
    refused(to_onnx(model, {}).SerializeToString(), "was not written by this package")
    for place in range(0, len(whole), 7):  # whatever byte is another, it is one line or a network of the same shape
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert load_onnx(path).params.shape == model.params.shape
        except InputError as error:
            assert "\n" not in str(error)  # noqa: PT017
    outside = onnx.ModelProto()
    outside.CopyFrom(made)
    tensor = outside.graph.initializer[1]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    refused(outside.SerializeToString(), "it has no float32 constant 1.W in it")
