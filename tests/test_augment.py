"""What augmentation makes of images: where each pixel comes from, and how it is drawn."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jobs import train
from tables import write_known_csv

from ddp_numpy import Augment, Conv2D, Dense, InputError, Sequential
from ddp_numpy.nn import Context
from ddp_numpy.nn import augment as augment_module

EVERYTHING = {"shift": 2, "rotation": 20, "scale": 0.2, "shear": 0.2, "elastic": 1.5, "smoothness": 3, "erase": 0.5}


def layer(shape: tuple[int, ...], dtype: type = np.float64, **options: float) -> Augment:
    made = Augment(**options)
    Sequential(made, dtype=dtype).build(shape)
    return made


def training(rows: int, first_row: int = 0, **values: int) -> Context:
    return Context(training=True, rows=rows, first_row=first_row, **values)


def augmented(
    X: np.ndarray, first_row: int = 0, number: int = 1, seed: int = 0, step: int = 0, **options: float
) -> Any:
    """What a layer with this number makes of X (B, H, W, C), or in shards."""
    layers = [Augment(**options) for _ in range(number)]
    Sequential(*layers, dtype=X.dtype).build(X.shape[-3:])
    return layers[-1].forward(X, training(math.prod(X.shape[:-3]), first_row, seed=seed, step=step)).copy()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let each row draw the same first numbers: the middle of their ranges, but for those that are given."""

    def patch(**numbers: float) -> None:
        def fill(self: object, out: np.ndarray, step: int, first_row: int) -> None:
            out[...] = 0.5
            for name, number in numbers.items():
                out[:, getattr(augment_module, f"_{name.upper()}")] = number

        monkeypatch.setattr(augment_module.RowStream, "fill", fill)

    return patch


@pytest.mark.parametrize("shape", [(7, 5, 2), (4, 9, 1)])
def test_each_pixel_is_looked_up_between_four(shape: tuple[int, int, int], rng: np.random.Generator) -> None:
    """The docstring's formulas for a pixel, in a loop."""
    height, width, _ = shape
    options = EVERYTHING | {"erase": 0}
    made = layer(shape, **options)
    X = rng.standard_normal((6, *shape))
    Y = made.forward(X, training(6))
    draws = made._draw(slice(0, 6)).astype(np.float64)
    bits = (draws[:, 16 : 16 + height * width] * 2**24).astype(int).reshape(6, height, width)
    noise = (np.array([bits >> 12, bits & 4095]) - 2047.5) / 2048
    for image, i, j, channel in np.ndindex(Y.shape):
        shift_y, shift_x, turn, scale, shear = 2 * draws[image, :5] - 1
        angle, s = math.radians(20 * turn), 1 + 0.2 * scale
        y, x = i - (height - 1) / 2 - 2 * shift_y, j - (width - 1) / 2 - 2 * shift_x
        from_y = (math.cos(angle) * y + math.sin(angle) * x) / s
        from_x = (-math.sin(angle) * y + math.cos(angle) * x) / s - 0.2 * shear * from_y
        g, h = (
            [math.exp(-((i - m) ** 2) / 18) for m in range(height)],
            [math.exp(-((j - n) ** 2) / 18) for n in range(width)],
        )
        length = math.sqrt(sum(v * v for v in g)) * math.sqrt(sum(v * v for v in h))
        smoothed = [math.sqrt(3) * 1.5 / length * np.array(g) @ noise[k, image] @ np.array(h) for k in range(2)]
        from_y += (height - 1) / 2 + smoothed[0]
        from_x += (width - 1) / 2 + smoothed[1]
        expected = 0.0
        for row, column in itertools.product(range(height), range(width)):
            weight = max(1 - abs(from_y - row), 0) * max(1 - abs(from_x - column), 0)
            expected += weight * X[image, row, column, channel]
        assert Y[image, i, j, channel] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("options", [{}, {"smoothness": 2}])
def test_nothing_to_change_changes_nothing(options: dict[str, float]) -> None:
    X = np.ones((3, 4, 5, 1))
    assert layer((4, 5, 1), **options).forward(X, training(3)) is X


def test_evaluation_changes_nothing() -> None:
    X = np.ones((3, 4, 5, 1))
    made = layer((4, 5, 1), **EVERYTHING)
    assert made.forward(X) is X
    assert made.backward(X) is X


def test_options_without_effect_in_the_draws_give_the_same_image(
    drawn: Callable[..., None], rng: np.random.Generator
) -> None:
    drawn()
    X = rng.standard_normal((3, 6, 5, 2))
    np.testing.assert_array_equal(augmented(X, shift=3, rotation=90, scale=0.5, shear=1), X)


@pytest.mark.parametrize(("down", "right"), [(2, 0), (0, -1), (-3, 2), (9, 0), (0, -40)])
def test_a_shift_by_whole_pixels_copies_them(
    down: int, right: int, drawn: Callable[..., None], rng: np.random.Generator
) -> None:
    drawn(shift_y=(1 + down / 64) / 2, shift_x=(1 + right / 64) / 2)
    X = rng.standard_normal((2, 8, 7, 3)).astype(np.float32)
    padded = np.zeros((2, 108, 107, 3), np.float32)
    padded[:, 50 + down : 58 + down, 50 + right : 57 + right] = X
    np.testing.assert_array_equal(augmented(X, shift=64), padded[:, 50:58, 50:57])


@pytest.mark.parametrize(("draw", "turns"), [(0.75, 1), (0.25, 3), (0, 2)])
def test_a_quarter_turn_against_the_clock(
    draw: float, turns: int, drawn: Callable[..., None], rng: np.random.Generator
) -> None:
    drawn(rotation=draw)
    X = rng.standard_normal((2, 7, 7, 2))
    np.testing.assert_allclose(augmented(X, rotation=180), np.rot90(X, turns, axes=(1, 2)), atol=1e-12)


def test_an_image_of_twice_the_size(drawn: Callable[..., None]) -> None:
    drawn(scale=1)
    i = np.arange(9.0)
    ramp = (i[:, None] + 10 * i)[None, :, :, None]  # bilinear interpolation keeps it
    np.testing.assert_allclose(augmented(ramp, scale=0.5)[0, :, :, 0], 44 + (ramp[0, :, :, 0] - 44) / 1.5, atol=1e-12)


def test_a_slant_moves_each_row_against_the_next(drawn: Callable[..., None]) -> None:
    drawn(shear=1)
    X = np.zeros((1, 5, 5, 1))
    X[:, :, 2] = 1
    np.testing.assert_array_equal(augmented(X, shear=1)[0, :, :, 0], np.eye(5))


def test_the_first_numbers_are_uniform() -> None:
    made = layer((2, 2, 1), shift=1)
    made.forward(np.ones((20_000, 2, 2, 1)), training(20_000))
    draws = np.concatenate([made._draw(block).copy() for block in made._blocks(20_000)])[:, :10]
    counts = np.array([np.histogram(column, 10, (0, 1))[0] for column in draws.T])
    assert (np.abs(counts - 2000) < 5 * math.sqrt(2000 * 0.9)).all()
    assert (np.abs(np.corrcoef(draws.T) - np.eye(10)) < 5 / math.sqrt(20_000)).all()


def test_images_of_layers_rows_steps_and_seeds_are_independent() -> None:
    """A ramp shows the shift of each image: it is uniform, and no two of them hang together."""
    ramp = np.broadcast_to(np.arange(21.0)[:, None], (2000, 21, 21))[..., None]

    def shifts(**which: int) -> np.ndarray:
        found: np.ndarray = 10 - augmented(ramp, shift=4, **which)[:, 10, 10, 0]
        return found

    base = shifts()
    assert abs(base.mean()) < 5 * 4 / math.sqrt(3 * 2000)
    assert base.var() == pytest.approx(16 / 3, rel=0.1)
    assert -4 <= base.min() < -3.9
    assert 3.9 < base.max() <= 4
    others = {
        "layer": shifts(number=2),
        "step": shifts(step=1),
        "seed": shifts(seed=1),
        "next batch": shifts(first_row=2000),
        "row": np.roll(base, 1),
    }
    for name, other in others.items():
        assert abs(np.corrcoef(base, other)[0, 1]) < 5 / math.sqrt(2000), name


def displacements(shape: tuple[int, int], rows: int, **options: float) -> np.ndarray:
    """How far each pixel is moved, (2, rows, H, W)."""
    made = layer((*shape, 1), **options)
    made._stream, made._step, made._first_row = augment_module.RowStream(0, "augment", 1), 0, 0
    found = []
    for block in made._blocks(rows):
        made._make_noise(made._draw(block)[:, 16 : 16 + math.prod(shape)])
        noise = made._noise.rows(2, block.stop - block.start)
        found.append(made._down @ noise @ made._right[2:])
    return np.concatenate(found, axis=1)


@pytest.mark.parametrize("smoothness", [1.0, 4.0])
def test_elastic_is_the_root_mean_square_at_each_pixel(smoothness: float) -> None:
    D = displacements((12, 9), 4000, elastic=1.5, smoothness=smoothness)
    assert D.mean() == pytest.approx(0, abs=0.05)
    rms = np.sqrt((D**2).mean(axis=1))
    np.testing.assert_allclose(rms, 1.5, rtol=0.07)  # in the corners, too
    assert (D**2).mean() == pytest.approx(2.25, rel=0.03)
    assert abs(np.corrcoef(D[0].ravel(), D[1].ravel())[0, 1]) < 0.02
    # Between rows of images, and between images.
    assert abs(np.corrcoef(D[0, :-1].ravel(), D[0, 1:].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize("smoothness", [1.0, 2.0])
def test_elastic_displacements_are_as_smooth_as_asked_for(smoothness: float) -> None:
    """Smoothing by a Gaussian twice, once for each of two pixels, leaves a correlation of exp(-d² / (4 sigma²))."""
    D = displacements((41, 41), 300, elastic=1, smoothness=smoothness)[:, :, 12:29, 12:29]
    for distance in (1, 2, 4):
        expected = math.exp(-(distance**2) / (4 * smoothness**2))
        assert (D[..., distance:] * D[..., :-distance]).mean() == pytest.approx(expected, abs=0.03)
        assert (D[..., distance:, :] * D[..., :-distance, :]).mean() == pytest.approx(expected, abs=0.03)


def test_an_elastic_draw_becomes_two_independent_numbers() -> None:
    made = layer((20, 20, 1), elastic=1)
    made.forward(np.ones((64, 20, 20, 1)), training(64))
    high, low = made._noise.rows(2, 64).reshape(2, -1)
    for numbers in (high, low):
        assert np.abs(numbers).max() < 1
        counts = np.histogram(numbers, 16, (-1, 1))[0]
        assert (np.abs(counts - 1600) < 5 * math.sqrt(1600)).all()
    assert abs(np.corrcoef(high, low)[0, 1]) < 5 / math.sqrt(25_600)
    example = made._make_noise(np.full((1, 400), 0.5 + 3 / 4096 + 7 / 4096**2, np.float32))
    np.testing.assert_array_equal(example[:, 0, 0, 0], [(2051 - 2047.5) / 2048, (7 - 2047.5) / 2048])


def test_the_share_and_the_area_that_is_erased() -> None:
    height, width = 30, 40
    Y = augmented(np.ones((3000, height, width, 2)), erase=0.3)
    gone = Y == 0
    assert set(np.unique(Y)) == {0, 1}
    np.testing.assert_array_equal(gone[..., 0], gone[..., 1])
    erased = np.flatnonzero(gone.any(axis=(1, 2, 3)))
    assert abs(len(erased) / 3000 - 0.3) < 5 * math.sqrt(0.3 * 0.7 / 3000)
    gone = gone[erased, ..., 0]
    rows, columns = gone.any(axis=2).sum(axis=1), gone.any(axis=1).sum(axis=1)
    area = gone.sum(axis=(1, 2))
    np.testing.assert_array_equal(area, rows * columns)  # each is a rectangle
    share = area / (height * width)
    assert 0.015 < share.min() < 0.03
    assert 0.18 < share.max() < 0.22  # sides are rounded
    assert share.mean() == pytest.approx(0.11, abs=0.01)
    aspect = np.log(rows / columns)
    assert abs(aspect.mean()) < 0.15
    assert np.abs(aspect).max() == pytest.approx(math.log(10 / 3), abs=0.35)
    for border in (gone[:, 0], gone[:, -1], gone[:, :, 0], gone[:, :, -1]):
        assert border.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(28, 28, 1), (5, 7, 3), (3, 1, 1)])
def test_an_image_has_the_same_bits_in_any_share(shape: tuple[int, ...], dtype: type, rng: np.random.Generator) -> None:
    X = rng.random((150, *shape)).astype(dtype)
    whole = augmented(X, **EVERYTHING)
    assert np.isfinite(whole).all()
    for start, stop in itertools.pairwise((0, 0, 1, 4, 21, 86, 150)):
        share = augmented(X[start:stop], start, **EVERYTHING)
        assert share.tobytes() == whole[start:stop].tobytes()
    shards = augmented(X.reshape(10, 15, *shape), **EVERYTHING)
    assert shards.tobytes() == whole.tobytes()


def test_a_smaller_batch_after_a_larger_one_is_the_same(rng: np.random.Generator) -> None:
    made = layer((6, 5, 2), **EVERYTHING)
    X = rng.random((9, 6, 5, 2))
    first = made.forward(X[:4], training(4)).copy()
    made.backward(np.ones((4, 6, 5, 2)))
    made.forward(1 / X, training(9))
    made.backward(X)
    np.testing.assert_array_equal(made.forward(X[:4], training(4)), first)


def test_images_of_so_many_pixels_that_float32_can_not_count_them(
    monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator
) -> None:
    X = rng.random((5, 6, 7, 1)).astype(np.float32)
    expected = augmented(X, **EVERYTHING)
    monkeypatch.setattr(augment_module, "_EXACT", 10)
    np.testing.assert_allclose(augmented(X, **EVERYTHING), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": -1}, "Augment: shift is -1, and must be a number from 0 to 10000"),
        ({"rotation": 181}, "Augment: rotation is 181, and must be a number from 0 to 180"),
        ({"scale": 1}, "Augment: scale is 1, and must be a number from 0 to 0.9"),
        ({"shear": "much"}, "Augment: shear is 'much', and must be a number from 0 to 10"),
        ({"elastic": math.nan}, "Augment: elastic is nan, and must be a number from 0 to 10000"),
        ({"smoothness": 0}, "Augment: smoothness is 0, and must be a number from 0.1 to 10000"),
        ({"erase": True}, "Augment: erase is True, and must be a number from 0 to 1"),
    ],
)
def test_what_can_not_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Augment(**options)
    assert str(caught.value) == message


def test_rows_that_are_no_images() -> None:
    with pytest.raises(InputError, match=r"layer 2 \(Augment\) takes images .*, not rows of the shape \(3,\)"):
        Sequential(Dense(3), Augment(1)).build((4,))


def test_its_name_says_what_it_does() -> None:
    assert str(Augment(2, 10)) == "augment (shift 2, rotation 10)"
    assert str(Augment()) == "augment (nothing)"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    return write_known_csv(tmp_path / "images.csv", rng.integers(0, 256, (60, 64)), np.arange(60) % 3)


OPTIONS = ("--augment-shift", "1", "--augment-elastic", "0.5", "--augment-erase", "0.2")


@pytest.mark.parametrize(
    ("model", "begin"),
    [
        ("mlp", "64 as 8 x 8 x 1 augment (shift 1, elastic 0.5, erase 0.2) flat -> 128"),
        ("tiny", "64 as 8 x 8 x 1 augment (shift 1, elastic 0.5, erase 0.2) "),
    ],
)
def test_options_put_it_in_front(model: str, begin: str, images: Path, tmp_path: Path) -> None:
    job = train(2, "--data", images, "--model", model, "--epochs", "1", "--out", "run", *OPTIONS, cwd=tmp_path)
    assert job.status == 0, job.err
    assert begin in job.out


def test_a_file_of_ones_own_has_its_own_layers(images: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    for options, name in ((OPTIONS, "augment-elastic"), (("--batch-norm", "--dropout", "0.1"), "batch-norm")):
        job = train(2, "--data", images, "--model-file", "mine.py", "--out", "run", *options, cwd=tmp_path)
        assert job.status != 0
        assert job.err == f"error: --{name}: put such a layer into --model-file mine.py\n"


def test_rows_that_are_no_square_images(tmp_path: Path) -> None:
    table = write_known_csv(tmp_path / "table.csv", np.ones((30, 10)), np.arange(30) % 3)
    job = train(None, "--data", table, "--out", "run", *OPTIONS, cwd=tmp_path)
    assert job.err.startswith("error: rows of 10 numbers are no square images")
    assert "leave the options of augmentation out" in job.err
    assert len(job.err.splitlines()) == 1


def test_it_may_stand_before_a_convolution(rng: np.random.Generator) -> None:
    model = Sequential(Augment(**EVERYTHING), Conv2D(2), dtype=np.float64)
    model.build((6, 6, 1))
    model.initialize(rng)
    model.attach_grads(np.zeros_like(model.params))
    Y = model.forward(rng.random((4, 6, 6, 1)), training(4))
    model.backward(Y)
    model.write_gradients()
    assert model.grads.all()
