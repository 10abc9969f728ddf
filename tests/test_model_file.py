"""What load_model makes of files that save_model did not write so, of checkpoints, and of layers of one's own."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddp_numpy import Dense, InputError, Layer, ReLU, Sequential, load_model, save_model
from ddp_numpy.nn import EVALUATION, Array, Context
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot

WRITTEN = Path(__file__).parent / "data" / "written"
DESCRIPTION: dict[str, Any] = {
    "format": "ddp_numpy model 1",
    "input_shape": [5],
    "input_divisor": 2.0,
    "classes": 3,
    "layers": [{"type": "Dense", "outputs": 4}, {"type": "ReLU"}, {"type": "Dense", "outputs": 3}],
}
PARAMS = np.random.default_rng(0).normal(size=6 * 4 + 5 * 3).astype(np.float32)
X = np.arange(50, dtype=np.float32).reshape(10, 5)


def written(path: Path, description: object = DESCRIPTION, **arrays: Any) -> Path:
    text = description if isinstance(description, str) else json.dumps(description)
    np.savez(path, model=np.array(text), **({"params": PARAMS} | arrays))
    return path


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path, **options)
    assert str(path) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (PARAMS[:1], "the model has 39 parameters in float32, not float32 (1,)"),
        (PARAMS[0], "no vector"),
        (PARAMS[:-1], "not float32 (38,)"),
        (PARAMS.reshape(3, 13), "no vector"),
        (PARAMS.astype(int), "no vector of floating-point numbers"),
        (PARAMS.astype(str), "holds <U32, not numbers"),
        (np.append(PARAMS[:-1], np.float32(np.nan)), "holds a number that is not finite"),
        (np.append(PARAMS[:-1], np.float32(np.inf)), "holds a number that is not finite"),
        (np.zeros(0), "not float64 (0,)"),
    ],
)
def test_params_that_are_not_the_models(params: np.ndarray, words: str, tmp_path: Path) -> None:
    assert words in refusal(written(tmp_path / "m.npz", params=params))


def test_params_in_the_other_order_of_bytes_are_read(tmp_path: Path) -> None:
    expected = load_model(written(tmp_path / "m.npz"))
    swapped = load_model(written(tmp_path / "s.npz", params=PARAMS.astype(">f4")))
    assert swapped.digest() == expected.digest()
    np.testing.assert_array_equal(swapped.predict(X), expected.predict(X))


def nested(depth: int) -> dict[str, Any]:
    """The description of a layer within so many others."""
    found: dict[str, Any] = {"type": "ReLU"}
    for _ in range(depth):
        found = {"type": "Residual", "layers": [found]}
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"input_divisor": 0}, "model.input_divisor is 0, and must be a number from"),
        ({"input_divisor": -1.0}, "model.input_divisor is -1.0"),
        ({"input_divisor": "x"}, "model.input_divisor is 'x'"),
        ({"input_divisor": True}, "model.input_divisor is True"),
        ({"input_divisor": float("nan")}, "NaN is not a number of JSON"),
        ({"input_divisor": None}, "model.input_divisor is None"),
        ({"input_divisor": [1.0] * 5}, "input_shift must be a list of 5 numbers"),
        ({"input_divisor": [1.0] * 5, "input_shift": [0.0] * 4}, "input_shift must be a list of 5 numbers"),
        ({"input_divisor": 1.0, "input_shift": [0.0] * 5}, "input_divisor must be a list of 5 numbers"),
        ({"input_divisor": [0.0] * 5, "input_shift": [0.0] * 5}, "model.input_divisor[0] is 0.0, and must be a number"),
        ({"columns": ["a"]}, "its 1 columns are 1 features, and its inputs (5,)"),
        ({"columns": [*"abcd", {"name": "e", "categories": ["x", "y"]}]}, "its 5 columns are 6 features"),
        ({"columns": [*"abc", {"name": "e", "categories": ["x", "x"]}]}, "column 'e' has the same category twice"),
        ({"columns": [*"abc", {"name": "e", "fill": None}]}, "model.columns[3].fill is None"),
        ({"columns": [*"abc", {"name": "e", "code": "x"}]}, "model.columns[3] has a member 'code'"),
        ({"columns": [*"abc", {"categories": ["x", "y"]}]}, "model.columns[3] has no name"),
        ({"class_names": ["a", "b"]}, "class_names must be 3 different ones"),
        ({"class_names": ["a", "b", "b"]}, "class_names must be 3 different ones"),
        ({"class_names": ["a", "b", None]}, "model.class_names[2] is None"),
        ({"input_shape": []}, "can't take rows of the shape ()"),
        ({"input_shape": 5}, "model.input_shape is 5, and must be a list"),
        ({"input_shape": [5.0]}, "model.input_shape[0] is 5.0, and must be a whole number from 1"),
        ({"input_shape": [True]}, "model.input_shape[0] is True"),
        ({"input_shape": [5, 1]}, "layer 1 (Dense) takes rows of one dimension"),
        ({"input_shape": [10**9]}, "the model has 4,000,000,019 parameters"),
        ({"input_shape": [10**12, 10**12]}, "can't take rows of the shape"),
        ({"classes": 4}, "its layers return (3,), and it says 4 classes"),
        ({"classes": "3"}, "model.classes is '3'"),
        ({"layers": {}}, "model.layers is an object, and must be a list"),
        ({"layers": ["Dense"]}, "model.layers[0] is 'Dense', and must be an object"),
        ({"layers": [{"outputs": 3}]}, "model.layers[0] has no type"),
        ({"layers": [{"type": "Dense"}]}, "layer 1 (Dense) can't be made"),
        ({"layers": [{"type": "Dense", "outputs": 3, "bias": 1}]}, "layer 1 (Dense) can't be made"),
        ({"layers": [{"type": "Dense", "outputs": 10**9}]}, "the model has 6,000,000,000 parameters"),
        ({"layers": [{"type": "Dense", "outputs": 10**400}]}, "Dense: outputs is 1000"),
        ({"layers": [{"type": "Dense", "outputs": "3"}]}, "Dense: outputs is '3', and must be a whole number"),
        ({"layers": [{"type": "Dense", "outputs": [3]}]}, "Dense: outputs is a list"),
        ({"layers": [{"type": ["Dense"]}]}, "model.layers[0].type is a list, and must be text"),
        ({"layers": [nested(17)]}, "a layer within layer 1: layers stand within layers more than 16 deep"),
        ({"layers": [nested(250)]}, "deep"),
        ({"layers": [{"type": "Residual"}]}, "Residual has no layers"),
        ({"layers": [{"type": "Residual", "layers": 3}]}, "Residual.layers is 3, and must be a list"),
        ({"layers": [{"type": "Residual", "layers": ["ReLU"]}]}, "a layer within layer 1 is 'ReLU'"),
        ({"layers": [{"type": "Residual", "layers": [{"type": "eval"}]}]}, "a layer within layer 1 is of the class"),
        ({"layers": [{"type": "Residual", "layers": [{"type": "Dense", "outputs": 4}]}]}, "can't be added"),
        ({"layers": [{"type": "Reshape", "shape": [10**9, 10**9]}]}, "layer 1 (Reshape) can't make rows"),
        ({"layers": [{"type": "Conv2D", "filters": 3}]}, "layer 1 (Conv2D)"),
        ({"layers": [{"type": "Dropout", "rate": 1}]}, "Dropout: rate is 1, and must be a number from 0 to 0.99"),
        ({"format": 1}, "model.format is 1, and must be text"),
        ({"owner": "x"}, "model has a member 'owner', which does not belong there"),
    ],
)
def test_descriptions_that_are_not_allowed(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    assert words in refusal(written(tmp_path / "m.npz", DESCRIPTION | change))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 100_000, "its JSON is nested too deep"),
        ("[]", "model is a list, and must be an object"),
        ("", "its JSON is not valid"),
        ('{"format": ' + "9" * 5000 + "}", "its JSON is not valid"),
        (json.dumps(DESCRIPTION)[:-1] + ', "classes": 3}', "an object has the same member twice"),
        (json.dumps({k: v for k, v in DESCRIPTION.items() if k != "classes"}), "model has no classes"),
        ("\ud800", "its JSON is not valid"),
    ],
)
def test_texts_that_describe_no_model(text: str, words: str, tmp_path: Path) -> None:
    assert words in refusal(written(tmp_path / "m.npz", text))


def test_arrays_that_do_not_belong_in_a_model(tmp_path: Path) -> None:
    assert "it has the arrays params, extra, and must have params" in refusal(written(tmp_path / "m.npz", extra=PARAMS))
    assert "buffers in float32, not float32 (3,)" in refusal(written(tmp_path / "m.npz", buffers=PARAMS[:3]))
    np.savez(tmp_path / "m.npz", model=np.array([json.dumps(DESCRIPTION)]), params=PARAMS)
    assert "the array model is not a text" in refusal(tmp_path / "m.npz")
    letters = np.frombuffer(b"\xff\xff\xff\xff", "<U1").reshape(())  # no letter has this number
    np.savez(tmp_path / "m.npz", model=letters, params=PARAMS)
    assert "the array model is not a text" in refusal(tmp_path / "m.npz")
    np.savez(tmp_path / "m.npz", model=np.array(json.dumps(DESCRIPTION)))
    assert "it has the arrays none, and must have params" in refusal(tmp_path / "m.npz")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "a folder without a model.npz" in refusal(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path / "fifo")
    (tmp_path / "m.npz").write_bytes(b"")
    assert "not a .npz file of plain arrays" in refusal(tmp_path / "m.npz")


@pytest.mark.parametrize("offset", [8, 10], ids=["flags", "method"])
def test_altered_fields_of_the_zip_are_refused(offset: int, tmp_path: Path) -> None:
    data = bytearray(written(tmp_path / "m.npz").read_bytes())
    place = data.rfind(b"PK\1\2")
    data[place + offset : place + offset + 2] = b"\x01\x00" if offset == 8 else b"\x63\x00"
    (tmp_path / "m.npz").write_bytes(data)
    refusal(tmp_path / "m.npz")
    with zipfile.ZipFile(tmp_path / "m.npz") as archive:
        assert len(archive.namelist()) == 2


class ScaledTanh(Layer):
    """tanh(scale X); keeps how many rows it saw, which is not trained."""

    def __init__(self, scale: float) -> None:
        self.scale = scale

    def buffer_shapes(self, input_shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
        return {"seen": (1,)}

    def config(self) -> dict[str, Any]:
        return {"scale": self.scale}

    def forward(self, X: Array, context: Context = EVALUATION) -> Array:
        return np.tanh(self.scale * X)


def own_model() -> Sequential:
    model = Sequential(Dense(4), ScaledTanh(0.5), Dense(3))
    model.build((5,))
    model.initialize(np.random.default_rng(1))
    model.buffers[...] = 7
    return model


def test_a_layer_of_ones_own_is_saved_and_loaded(tmp_path: Path) -> None:
    model = own_model()
    save_model(model, tmp_path / "m.npz")
    again = load_model(tmp_path / "m.npz", layers=[ScaledTanh])
    assert again.digest() == model.digest()
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    assert again.description() == model.description()
    words = refusal(tmp_path / "m.npz")
    assert "layer 2 is of the class 'ScaledTanh', which is not of this package" in words
    assert words.endswith("pass it: load_model(path, layers=[…]), or --model-file FILE.py")


@pytest.mark.parametrize("name", ["os.system", "builtins.exec", "test_model_file.ScaledTanh", "Layer"])
def test_a_class_that_only_the_file_names_is_never_found(name: str, tmp_path: Path) -> None:
    described = DESCRIPTION | {"layers": [{"type": name}]}
    assert f"layer 1 is of the class '{name}'" in refusal(written(tmp_path / "m.npz", described), layers=[ScaledTanh])


def checkpoint(folder: Path, change: Callable[[dict[str, Any]], None] = lambda facts: None) -> Path:
    """A checkpoint of an earlier version, changed."""
    path = folder / "c.npz"
    (newest,) = (WRITTEN / "fast" / "checkpoints").glob("*.npz")
    snapshot = read_snapshot(newest)
    change(snapshot.facts)
    with open(path, "wb") as file:
        write_snapshot(file, snapshot)
    return path


def test_the_model_of_a_checkpoint_is_loaded(tmp_path: Path) -> None:
    model = own_model()
    facts = {"options": {}, "best": None, "trajectory": {"model": model.description()}, "blas": ""}
    arrays = {"params": model.params, "buffers": model.buffers, "epoch_sums": np.zeros(3)}
    with open(tmp_path / "c.npz", "wb") as file:
        write_snapshot(file, Snapshot(1, 0, arrays, facts))
    assert load_model(tmp_path / "c.npz", layers=[ScaledTanh]).digest() == model.digest()
    assert "of the class 'ScaledTanh'" in refusal(tmp_path / "c.npz")


def test_a_checkpoint_of_an_earlier_version_is_loaded_if_it_says_enough(tmp_path: Path) -> None:
    assert "its version did not note all of the model" in refusal(checkpoint(tmp_path))
    model = load_model(checkpoint(tmp_path, lambda facts: facts["options"].update(divisor=255.0)))
    assert str(model) == "12 -> 8 ReLU -> 4"
    assert model.scale.divisor == 255.0
    assert "model.input_divisor is '255'" in refusal(
        checkpoint(tmp_path, lambda facts: facts["options"].update(divisor="255"))
    )
    assert "did not note" in refusal(
        checkpoint(tmp_path, lambda facts: (facts["options"].update(divisor=1.0), facts["trajectory"].clear()))
    )


def test_every_old_file_still_loads(tmp_path: Path) -> None:
    for run in ("fast", "reproducible"):
        shutil.copy(WRITTEN / run / "model.npz", tmp_path / "m.npz")
        assert isinstance(load_model(tmp_path / "m.npz").layers[1], ReLU)
        for path in (WRITTEN / run / "checkpoints").glob("*.npz"):
            assert read_snapshot(path).step == 2
