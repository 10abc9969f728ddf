"""Pictures of digits become what MNIST's pictures are, whatever their size, colours and background."""

import io
from pathlib import Path

import numpy as np
import pytest
from jobs import run_job
from PIL import Image

from ddp_numpy import Dense, InputError, ReLU, Sequential, SingleProcess, Trainer, load_data, save_model
from ddp_numpy.deploy.handwriting import centred, ink, read_picture
from ddp_numpy.optim import Adam

RNG = np.random.default_rng(5)
SEVEN = np.zeros((40, 30), np.uint8)
SEVEN[4:9, 4:26] = SEVEN[4:36, 20:26] = 255


def drawn(row: np.ndarray, side: int) -> np.ndarray:
    """A digit of MNIST (784,) larger, somewhere on an empty sheet of so many pixels a side, 0 to 255."""
    large = Image.fromarray(row.reshape(28, 28)).resize((side // 2, side // 2), Image.Resampling.BICUBIC)
    sheet = np.zeros((side, side), np.uint8)
    top, left = RNG.integers(0, side // 2, 2)
    sheet[top : top + side // 2, left : left + side // 2] = large
    return sheet


def light_on_dark(sheet: np.ndarray, path: Path) -> Path:
    Image.fromarray(sheet).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def dark_on_light_with_noise(sheet: np.ndarray, path: Path) -> Path:
    paper = 215 + RNG.normal(0, 4, sheet.shape) - sheet * 0.7
    rgb = np.clip(paper, 0, 255).astype(np.uint8)[..., np.newaxis] * np.array([1.0, 0.97, 0.9])
    Image.fromarray(rgb.astype(np.uint8)).save(path.with_suffix(".jpg"), quality=80)
    return path.with_suffix(".jpg")


def black_on_nothing(sheet: np.ndarray, path: Path) -> Path:
    nothing = np.zeros_like(sheet)
    Image.fromarray(np.dstack([nothing, nothing, nothing, sheet])).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def white_on_nothing(sheet: np.ndarray, path: Path) -> Path:
    full = np.full_like(sheet, 255)
    Image.fromarray(np.dstack([full, full, full, sheet])).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


def blue_on_yellow(sheet: np.ndarray, path: Path) -> Path:
    share = sheet[..., np.newaxis] / 255
    rgb = (1 - share) * np.array([250, 220, 60]) + share * np.array([20, 30, 160])
    Image.fromarray(rgb.astype(np.uint8)).save(path.with_suffix(".webp"), lossless=True)
    return path.with_suffix(".webp")


def of_16_bits(sheet: np.ndarray, path: Path) -> Path:
    Image.fromarray(sheet.astype(np.uint16) * 257).save(path.with_suffix(".png"))
    return path.with_suffix(".png")


KINDS = [light_on_dark, dark_on_light_with_noise, black_on_nothing, white_on_nothing, blue_on_yellow, of_16_bits]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a model of digits, m.npz."""
    folder = tmp_path_factory.mktemp("digits")
    train, _ = load_data("digits", SingleProcess())
    model = Sequential(Dense(64), ReLU(), Dense(10))
    Trainer(model, Adam(lr=0.003), SingleProcess(), batch_size=64).train(train, None, 8)
    save_model(model, folder / "m.npz")
    return folder


def test_a_digit_of_mnist_stays_as_it_is() -> None:
    _, valid = load_data("digits", SingleProcess())
    X = valid.features[:500]
    for row in X:
        sheet = row.reshape(28, 28)
        found = centred(ink(sheet, np.full_like(sheet, 255), Path("a.png")))
        assert np.abs(found.astype(int) - row).max() <= 1  # its largest value becomes 255


def test_a_digit_is_fitted_into_20_by_20_and_its_mass_is_centred() -> None:
    image = centred(SEVEN).reshape(28, 28).astype(float)
    rows, columns = np.flatnonzero(image.any(axis=1)), np.flatnonzero(image.any(axis=0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (20, 14)  # 32 by 22, in the same proportion
    for axis in (0, 1):
        mass = image.sum(axis=1 - axis)
        assert 14 <= mass @ (np.arange(28) + 0.5) / mass.sum() < 15
    assert image.sum() == pytest.approx(SEVEN.sum() * (20 * 14) / (32 * 22), rel=0.01)


def test_where_it_stands_and_how_large_it_is_tells_nothing() -> None:
    expected = centred(SEVEN)
    for corner in ((0, 0), (0, 60), (70, 0), (70, 60)):
        sheet = np.zeros((110, 90), np.uint8)
        sheet[corner[0] : corner[0] + 40, corner[1] : corner[1] + 30] = SEVEN
        np.testing.assert_array_equal(centred(sheet), expected)
    for times in (2, 3, 7):
        np.testing.assert_array_equal(centred(np.kron(SEVEN, np.ones((times, times), np.uint8))), expected)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_pictures_of_every_kind_are_read_as_the_digits_they_show(kind, folder: Path, tmp_path: Path) -> None:
    from ddp_numpy import load_model

    _, valid = load_data("digits", SingleProcess())
    model, X, y = load_model(folder / "m.npz"), valid.features[:120], valid.labels[:120]
    rows = [read_picture(kind(drawn(row, int(RNG.integers(60, 300))), tmp_path / str(at))) for at, row in enumerate(X)]
    as_they_are, as_pictures = ((model.predict(rows) == y).mean() for rows in (X, np.array(rows)))
    assert as_pictures > as_they_are - 0.03


def test_a_folder_of_pictures_is_predicted_by_their_names(folder: Path, tmp_path: Path) -> None:
    _, valid = load_data("digits", SingleProcess())
    for at, row in enumerate(valid.features[:150]):
        Image.fromarray(row.reshape(28, 28)).save(tmp_path / f"{at:03}.png")
    (tmp_path / "notes.md").write_text("not a picture")
    command = ("-m", "ddp_numpy.predict", "--weights", folder / "m.npz", "--data")
    alone, three = (run_job(ranks, *command, tmp_path, cwd=tmp_path) for ranks in (None, 3))
    assert (alone.status, three.out) == (0, alone.out), alone.err + three.err
    names, digits = zip(*(line.split(",") for line in alone.out.splitlines()[1:]), strict=True)
    assert names == tuple(f"{at:03}.png" for at in range(150))
    assert (np.array(digits, int) == valid.labels[:150]).mean() > 0.85
    one = run_job(None, *command, "007.png", cwd=tmp_path)
    assert one.out.splitlines() == ["ImageId,Label", f"007.png,{digits[7]}"]
    some = run_job(None, *command, "01?.png", cwd=tmp_path)
    assert len(some.out.splitlines()) == 11


def test_what_is_no_picture_of_a_digit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    picture = io.BytesIO()
    Image.fromarray(SEVEN).save(picture, "PNG")
    whole = picture.getvalue()
    million = whole[:16] + (10**6).to_bytes(4, "big") * 2 + whole[24:]
    blank = io.BytesIO()
    Image.fromarray(np.full((50, 50), 240, np.uint8)).save(blank, "PNG")
    for data, words in (
        (b"", "no picture that can be read"),
        (whole[: len(whole) // 2], "no picture that can be read, or damaged"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture that can be read"),
        (million, "too many pixels|1,000,000 x 1,000,000|no picture that can be read"),
        (blank.getvalue(), "nothing is drawn on it"),
    ):
        path.write_bytes(data)
        with pytest.raises(InputError, match=f"a.png: .*({words})"):
            read_picture(path)
    path.write_bytes(whole)
    job_model = Sequential(Dense(2))
    job_model.build((64,))
    save_model(job_model, tmp_path / "small.npz")
    job = run_job(2, "-m", "ddp_numpy.predict", "--weights", "small.npz", "--data", "a.png", cwd=tmp_path)
    assert (job.status, job.error_lines) == (
        2, ["error: a.png: a picture becomes 28 x 28 pixels, as MNIST's are, and the model takes 64 numbers; give a "
            "table"],
    )  # fmt: skip
