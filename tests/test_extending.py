"""What docs/extending.md adds to the package keeps what the package's own parts keep, and what the page says of it."""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_layers
import test_optimizers
from exchanging import assert_same, weights, weights_alone
from extending_page import BLOCKS, PAGE, run_page
from jobs import run_job
from layers import Entry, built, training
from several import train_several
from tables import classified_rows
from test_layout import LIBRARY, MAY_IMPORT, PACKAGE

import ddp_numpy
from ddp_numpy import SGD, Dataset, Dense, DivergedError, FloatExchange, InputError, Sequential, SingleProcess, Trainer
from ddp_numpy.base.scale import Scale
from ddp_numpy.data import files, load_data
from ddp_numpy.data.table import DEFAULTS, make_table
from ddp_numpy.nn import EVALUATION
from ddp_numpy.runs.model_file import load_model, save_model
from ddp_numpy.runs.snapshot import Snapshot, read_snapshot, write_snapshot

SCRIPT = Path(__file__).parent / "mpi" / "own_parts.py"
LAYERS = ("Projection", "CutProjection", "Noise")

Page = dict[str, Any]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("page"))
        patch.setattr(ddp_numpy, "world", SingleProcess)
        yield run_page()


def layer(page: Page, name: str) -> Entry:
    return Entry(lambda: page[name](0.3 if name == "Noise" else 3))


def data() -> Dataset:
    X, y = classified_rows(60)
    return Dataset(X, y, classes=4, scale=Scale(255.0))


def test_three_ranks_train_as_one_process_does(tmp_path: Path) -> None:
    alone = weights_alone(SCRIPT)
    assert_same(weights(tmp_path, "-n", "3", script=SCRIPT), alone)
    for name, params in alone.items():
        _, *rest = name.split("; ")
        expected = alone["; ".join(["gradients", *rest])]
        # Adagrad divides by small numbers: what differs by rounding to the grid differs by more then.
        np.testing.assert_allclose(params, expected, rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_keeps_what_all_layers_keep(name: str, page: Page, rng: np.random.Generator) -> None:
    entry = layer(page, name)
    for context in (training(test_layers.ROWS), EVALUATION):
        test_layers.test_gradients(entry, context, rng)
    test_layers.test_a_gradient_at_the_input_that_is_not_asked_for_changes_no_other(entry, rng)
    test_layers.test_rows_do_not_mix_in_evaluation(entry, rng)
    for cuts in ((0, 3, 7), (0, 0, 7), (0, 1, 2, 7)):
        test_layers.test_shares_sum_to_the_whole(entry, cuts, rng)
    for dtype in (np.float32, np.float64):
        test_layers.test_a_shard_has_the_same_bits_whatever_stands_beside_it(entry, dtype, rng)
    test_layers.test_rows_that_fill_a_shard_up_change_nothing(entry, rng)
    for steps in (1, 5):
        test_layers.test_a_run_goes_on_from_any_step(entry, steps)


@pytest.mark.parametrize("units", [slice(0, 5), slice(0, 2), slice(2, 5), slice(3, 4)])
def test_units_of_a_gradient_are_its_rows(units: slice, page: Page, rng: np.random.Generator) -> None:
    model = built(layer(page, "CutProjection"))
    (own,) = model.layers
    model.forward(rng.standard_normal((7, 5)))
    own.backward(rng.standard_normal((7, 3)))
    own.write_gradients()
    X, dY = own.factors()
    assert own.cut() == ((5,), (3,), 5, True)
    only_needed = np.full_like(X, np.nan)
    only_needed[:, own.features(units)] = X[:, own.features(units)]
    gradient = np.empty(3 * (units.stop - units.start))
    own.write_units(units, only_needed, dY, gradient)
    np.testing.assert_allclose(gradient, model.grads.reshape(5, 3)[units].ravel(), rtol=1e-13, atol=1e-14)


def test_noise_is_even_and_of_its_width(page: Page) -> None:
    model = built(layer(page, "Noise"))
    noise = model.forward(np.zeros((4000, 5)), training(4000))
    assert (noise.min() < -0.149, noise.max() > 0.149, np.abs(noise).max() <= 0.15) == (True, True, True)
    assert abs(noise.mean()) < 0.003


def test_a_projection_refuses_images(page: Page) -> None:
    with pytest.raises(InputError, match=r"\(Projection\) takes rows of one dimension; put a Flatten before it"):
        Sequential(page["Projection"](3)).build((5, 4, 3))


def test_a_model_file_holds_the_layers(page: Page, tmp_path: Path, rng: np.random.Generator) -> None:
    model = Sequential(*(layer(page, name).make() for name in LAYERS), Dense(2), dtype=np.float64)
    model.build((5,))
    model.initialize(rng)
    save_model(model, tmp_path / "model.npz")
    loaded = load_model(tmp_path / "model.npz", layers=[page[name] for name in LAYERS])
    assert loaded.description() == model.description()
    X = rng.standard_normal((7, 5))
    np.testing.assert_array_equal(loaded.forward(X), model.forward(X))
    with pytest.raises(InputError, match="'Projection', which is not of this package"):
        load_model(tmp_path / "model.npz")


def test_the_command_line_trains_the_layers_and_resumes(tmp_path: Path) -> None:
    layers = [block for block in BLOCKS if "(Layer):" in block or "(Projection):" in block]
    build = "def build(input_shape, classes):\n    return [Noise(), CutProjection(8), Projection(classes)]\n"
    (tmp_path / "net.py").write_text("\n".join([*layers, build]))
    common = ["--model-file", "net.py", "--quiet"]
    jobs = train_several(
        None,
        {
            "whole": (tmp_path, [*common, "--epochs", "2", "--out", "whole"]),
            "begun": (tmp_path, [*common, "--epochs", "1", "--out", "run"]),
            "resumed": (tmp_path, [*common, "--epochs", "2", "--out", "run", "--resume", "auto"]),
        },
    )
    assert [job.status for job in jobs.values()] == [0, 0, 0], jobs
    whole, run = (np.load(tmp_path / name / "model.npz")["params"] for name in ("whole", "run"))
    np.testing.assert_array_equal(whole, run)
    for command in ("predict", "evaluate", "export"):
        more = ["--data", "digits"] if command != "export" else ["own.onnx"]
        job = run_job(None, "-m", f"ddp_numpy.{command}", "--weights", "run", *more, cwd=tmp_path)
        assert job.status == 2, command
        assert "which is not of this package" in job.err


def adagrad(params: np.ndarray) -> np.ndarray:
    """The formula, as the paper has it, for the gradients of test_optimizers."""
    total = np.zeros_like(params)
    for step in range(test_optimizers.STEPS):
        grads = test_optimizers.gradients(params, step)
        total = total + grads**2
        params = params - 0.05 * grads / (np.sqrt(total) + 1e-8)
    return params


def test_adagrad_does_what_its_paper_says(page: Page) -> None:
    own = page["Adagrad"]
    np.testing.assert_allclose(test_optimizers.trained(own(0.05)), adagrad(test_optimizers.start()), rtol=1e-12)
    assert test_optimizers.trained(own(0.05), dtype=np.float32).dtype == np.float32
    assert str(own(0.05)) == "Adagrad, learning rate 0.05"


@pytest.mark.parametrize("cuts", [(0, 7, 21), (0, 3, 3, 12, 17, 21)])
def test_adagrad_updates_run_by_run(cuts: tuple[int, ...], page: Page) -> None:
    optimizer, runs = page["Adagrad"](0.05), [slice(a, b) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(
        test_optimizers.trained(optimizer, runs), test_optimizers.trained(page["Adagrad"](0.05))
    )
    assert optimizer.elementwise


def trainer(page: Page) -> Trainer:
    model = Sequential(*(layer(page, name).make() for name in LAYERS), Dense(4))
    return Trainer(model, page["Adagrad"](0.05), SingleProcess(), batch_size=16, exchange=page["PlainExchange"]())


def test_a_run_goes_on_from_a_checkpoint(page: Page, tmp_path: Path) -> None:
    whole, first, second = trainer(page), trainer(page), trainer(page)
    whole.train(data(), data(), 3)
    first.train(data(), data(), 1)
    with (tmp_path / "step.npz").open("wb") as file:
        write_snapshot(file, Snapshot(first.epoch, first.step, first.state()))
    second.prepare(data())
    found = read_snapshot(tmp_path / "step.npz")
    assert found.arrays["optimizer.total"].any()
    second.restore(found.epoch, found.step, found.arrays)
    second.train(data(), data(), 3)
    for name, array in whole.state().items():
        np.testing.assert_array_equal(second.state()[name], array, err_msg=name)


def test_the_plainest_exchange_is_the_textbooks(page: Page) -> None:
    found = []
    for exchange in (page["PlainExchange"](), FloatExchange()):
        model = Sequential(Dense(8), Dense(4), dtype=np.float64)
        epochs = Trainer(model, SGD(0.1), SingleProcess(), batch_size=16, exchange=exchange).train(data(), data(), 2)
        found.append((model.digest(), epochs[-1].train_loss, epochs[-1].valid_accuracy))
    assert found[0] == found[1]


def test_the_plainest_exchange_finds_what_is_not_finite(page: Page) -> None:
    model = Sequential(Dense(8), Dense(4))
    diverging = Trainer(model, SGD(1e30), SingleProcess(), exchange=page["PlainExchange"](), batch_size=16)
    with pytest.raises(DivergedError, match="the loss or the gradient is not a finite number in epoch 1"):
        diverging.train(data(), data(), 1)


def test_an_exchange_belongs_to_one_trainer(page: Page) -> None:
    exchange = page["PlainExchange"]()
    for _ in range(2):
        last = Trainer(Sequential(Dense(4)), SGD(0.1), SingleProcess(), exchange=exchange)
        if hasattr(exchange, "grads"):
            with pytest.raises(InputError, match="belongs to another trainer"):
                last.prepare(data())
        else:
            last.prepare(data())


def lines(rows: int = 60) -> str:
    return "".join(f'{{"label": "{"ab"[n % 2]}", "size": {n / 2}, "colour": "{"xyz"[n % 3]}"}}\n' for n in range(rows))


def test_json_lines_are_read_as_a_table_is(page: Page, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(lines())
    frame = page["read_json_lines"](tmp_path / "rows.jsonl")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    comm = SingleProcess()
    for own, csv in zip(load_data(frame, comm), load_data(tmp_path / "rows.csv", comm), strict=True):
        assert own.sha256() == csv.sha256()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, "rows.jsonl: No such file or directory"),
        (lines() + '{"label"', "rows.jsonl: a line is not a JSON object: "),
    ],
)
def test_what_is_no_json_lines_is_one_error(text: str | None, error: str, page: Page, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "rows.jsonl").write_text(text)
    with pytest.raises(InputError, match=re.escape(error)):
        page["read_json_lines"](tmp_path / "rows.jsonl")


def test_two_places_let_the_package_read_a_format(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    comm, path, is_table = SingleProcess(), tmp_path / "rows.jsonl", files.is_table
    path.write_text(lines())
    monkeypatch.setattr(files, "is_table", lambda path: path.suffix == ".jsonl" or is_table(path))
    monkeypatch.setattr(files, "_read_columns", page["read_json_lines"])
    expected = [rows.sha256() for rows in load_data(page["read_json_lines"](path), comm)]
    assert [rows.sha256() for rows in load_data(path, comm)] == expected
    (tmp_path / "parts").mkdir()
    for name in "ab":
        (tmp_path / "parts" / f"{name}.jsonl").write_text(lines(30))
    train, valid = load_data(tmp_path / "parts", comm, valid=path)
    assert (len(train), len(valid)) == (60, 60)
    monkeypatch.setattr(files, "_read_columns", lambda path: pytest.fail("was in the cache"))
    assert [rows.sha256() for rows in load_data(path, comm)] == expected


def test_a_table_is_made_of_a_data_frame(page: Page, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines())
    table = make_table(page["read_json_lines"](path), path, DEFAULTS)
    table.check()
    assert (table.label, table.columns, table.class_names) == ("label", ("size", "colour"), ("a", "b"))


def test_the_table_of_rooms_is_what_test_layout_holds() -> None:
    rows = re.findall(r"^\| (\w+) \| .+ \| (.*)\|$", PAGE.read_text(), re.MULTILINE)
    found = {}
    for room, names in rows[1:]:
        listed = [name.strip() for name in names.split(",") if name.strip()]
        found[room] = {"" if name == "the package" else name for name in listed if name != "library"}
        found[room] |= LIBRARY if "library" in listed else set()
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert found == {room: MAY_IMPORT[room] for room in folders}
