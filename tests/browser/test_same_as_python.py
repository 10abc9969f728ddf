"""The page in JavaScript comes to what the package does in Python: the same pixels and logits; gradients that fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layers import LAYERS, Entry
from windows import digits

from ddp_numpy import InputError, Sequential
from ddp_numpy.base.scale import Scale
from ddp_numpy.deploy.drawing_page import Step, page_files
from ddp_numpy.deploy.handwriting import centred, ink
from ddp_numpy.nn.presets import IMAGE_PRESETS, mlp


def pictures() -> list[tuple[np.ndarray, np.ndarray]]:
    """How light and how opaque pixels are: of every kind that `ink` tells apart, and of many sizes."""
    rng, found = np.random.default_rng(3), []
    for height, width in ((1, 1), (3, 40), (28, 28), (40, 31), (57, 90), (140, 133)):
        drawn = np.zeros((height, width))
        for _ in range(3):
            top, left = rng.integers(0, height), rng.integers(0, width)
            drawn[top : top + height // 3 + 1, left : left + width // 8 + 1] = rng.uniform(0.2, 1)
        full = np.full(drawn.shape, 255)
        noise = rng.normal(0, 3, drawn.shape)
        found += [(255 * drawn, full), (230 + noise - 200 * drawn, full), (100 + 100 * drawn, full),
                  (0 * full, 255 * drawn), (full, 255 * drawn), (noise + 128, full),
                  (200 - 150 * drawn, np.where(drawn > 0, 255, rng.integers(0, 2) * 255))]  # fmt: skip
    return [(np.clip(grey, 0, 255).astype(np.uint8), alpha.astype(np.uint8)) for grey, alpha in found]


def test_python_and_the_page_prepare_pictures_alike_pixel_for_pixel(page: Any) -> None:
    both = [
        {"grey": grey.ravel().tolist(), "alpha": alpha.ravel().tolist(), "width": grey.shape[1], "height": len(grey)}
        for grey, alpha in pictures()
    ]
    theirs = page.evaluate(
        """async (pictures) => {
          const { ink, centred } = await import("./picture.js");
          return pictures.map((picture) => {
            const found = ink(picture);
            return found && { ink: [...found.ink], row: [...centred(found)] };
          });
        }""",
        both,
    )
    told = 0
    for (grey, alpha), found in zip(pictures(), theirs, strict=True):
        try:
            ours = ink(grey, alpha, Path("a.png"))
        except InputError:
            assert found is None
            continue
        told += 1
        assert found["ink"] == ours.ravel().tolist()
        assert found["row"] == centred(ours).tolist()
    assert told > 25


NETWORK = """async ([files, rows]) => {
  const { Network } = await import("./network.js");
  const about = JSON.parse(files.about);
  const network = new Network(about.model, Float32Array.from(files.weights));
  const logits = rows.map((row) => [...network.forward(Float64Array.from(row))]);
  // Along a random direction, a logit changes as its gradient says. Not at a ReLU's kink, where the empty pixels are.
  const x = Float64Array.from(rows[0], (value, n) => value + Math.cos(n * n));
  const along = x.map((_, n) => Math.sin(7 * n + 1));
  const differences = logits[0].map((_, output) => {
    network.forward(x);
    const said = network.gradient(output).reduce((sum, gradient, n) => sum + gradient * along[n], 0);
    const near = (step) => network.forward(x.map((value, n) => value + step * along[n]))[output];
    return Math.abs((near(1e-5) - near(-1e-5)) / 2e-5 - said) / (1e-3 + Math.abs(said));
  });
  return { logits, wrong: Math.max(...differences) };
}"""


def in_page(page: Any, model: Sequential, rows: np.ndarray) -> dict[str, Any]:
    files = page_files([Step("", model)])
    weights = np.frombuffer(files["weights-0.bin"], "<f4").tolist()
    given = {"about": files["network.json"].decode(), "weights": weights}
    return dict(page.evaluate(NETWORK, [given, rows.reshape(len(rows), -1).tolist()]))


@pytest.mark.parametrize("entry", LAYERS.values(), ids=LAYERS)
def test_layers_in_the_page_return_what_the_package_s_do(entry: Entry, page: Any) -> None:
    rng = np.random.default_rng(1)
    model = Sequential(entry.make(), dtype=np.float32)
    model.build(entry.shape)
    model.attach_params(rng.normal(0, 0.5, model.params.size).astype(np.float32))
    model.attach_buffers(rng.uniform(0.5, 2, model.buffers.size).astype(np.float32))
    rows = rng.normal(0, 1, (4, *entry.shape))
    found = in_page(page, model, rows)
    np.testing.assert_allclose(
        np.array(found["logits"]), model.forward(rows.astype(np.float32)).reshape(4, -1), rtol=1e-5, atol=1e-5
    )
    assert found["wrong"] < 1e-4


@pytest.mark.parametrize("name", ["mlp", "cnn", "lenet5", "resnet8", "tiny"])
def test_logits_of_the_presets_agree(name: str, page: Any) -> None:
    model = Sequential(*(mlp(10) if name == "mlp" else IMAGE_PRESETS[name](10, (28, 28, 1), 0.1)))
    model.build((784,))
    model.scale = Scale(255.0)
    model.initialize(np.random.default_rng(2))
    X = digits(100)[0]
    found = in_page(page, model, X)
    assert np.abs(np.array(found["logits"]) - model.logits(X)).max() < 1e-4
    assert found["wrong"] < 1e-3
