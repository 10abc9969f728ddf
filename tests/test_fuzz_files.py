"""Whatever a model file, a checkpoint or a config.toml holds, the outcome is a right result or one line.

DDP_NUMPY_FUZZ_SECONDS: how long each of the three is tried. DDP_NUMPY_FUZZ_SEED: the first of the seeds.
"""

import contextlib
import io
import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
from fuzz.corpus_files import (
    BATCH_SIZE,
    CLASSES,
    FEATURES,
    ROWS,
    checkpoint_file,
    config_file,
    model_description,
    model_file,
    values_in,
    vector,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ddp_numpy import (
    Dataset,
    Dense,
    DivergedError,
    InputError,
    ReLU,
    Scale,
    Sequential,
    SingleProcess,
    Trainer,
    load_model,
)
from ddp_numpy.cli import _read_toml
from ddp_numpy.making import make_optimizer
from ddp_numpy.runs.resume import Start, identity
from ddp_numpy.runs.snapshot import read_snapshot
from ddp_numpy.settings import Settings

SECONDS = float(os.environ.get("DDP_NUMPY_FUZZ_SECONDS", "4"))
FIRST_SEED = int(os.environ.get("DDP_NUMPY_FUZZ_SEED", "0"))
DATA = Dataset(
    np.arange(ROWS * FEATURES, dtype=np.uint8).reshape(ROWS, FEATURES), np.arange(ROWS) % CLASSES, CLASSES, Scale(255.0)
)


def use_model(path: Path) -> None:
    model = load_model(path)
    assert model.params.dtype.kind == "f"
    assert np.isfinite(model.params).all()
    shape = (2, *(model.input_shape or ()))
    labels, P = model.predict(np.ones(shape)), model.predict_proba(np.ones(shape))
    assert ((labels >= 0) & (labels < model.output_shape[0])).all()
    assert P.shape == (2, *model.output_shape)


def use_checkpoint(path: Path) -> None:
    """As a run that is resumed does, as far as it has to do with the file."""
    snapshot = read_snapshot(path)
    start = Start(path.parent, snapshot, path)
    settings = start.settings(Settings(), set())
    trainer = Trainer(
        Sequential(Dense(4), ReLU(), Dense(CLASSES), dtype=settings.model.dtype),
        make_optimizer(settings.training),
        SingleProcess(),
        batch_size=BATCH_SIZE,
    )
    trainer.prepare(DATA)
    common = identity(trainer.model, DATA) | {"SHA-256 of the training rows": "0"}
    start.check(settings, common, lambda text: None)
    trainer.restore(snapshot.epoch, snapshot.step, start.arrays(trainer.state(), settings))
    assert start.overrides(settings) == snapshot.facts.get("overrides", [])
    with contextlib.suppress(DivergedError):
        trainer.train_epoch(DATA)


def use_config(path: Path) -> None:
    settings = Settings.of(_read_toml(path))
    assert Settings.of(settings.recorded()).training == settings.training


USES: dict[Callable[[Random], bytes], tuple[Callable[[Path], None], ...]] = {
    model_file: (use_model,),
    checkpoint_file: (use_checkpoint, use_model),
    config_file: (use_config,),
}


@pytest.mark.parametrize("make", USES, ids=lambda make: make.__name__)
def test_a_right_result_or_one_line(make: Callable[[Random], bytes], tmp_path: Path) -> None:
    path = tmp_path / "file"
    deadline, seed, right = time.monotonic() + SECONDS, FIRST_SEED, 0
    while time.monotonic() < deadline or seed <= FIRST_SEED + 50:  # a busy machine takes longer for as many
        path.write_bytes(make(Random(seed)))
        for use in USES[make]:
            begun = time.monotonic()
            try:
                use(path)
                right += 1
            except InputError as error:
                text = str(error)
                if len(text.splitlines()) != 1 or len(text) > 3000:
                    pytest.fail(f"{use.__name__}, seed {seed}: not one line of a sensible length:\n{text[:3000]}")
            except BaseException:
                pytest.fail(f"{use.__name__}, seed {seed}:\n{traceback.format_exc()}")
            assert time.monotonic() - begun < 10, f"{use.__name__}, seed {seed}"
        seed += 1
    tried = seed - FIRST_SEED
    assert 0.05 * tried < right, "valid files are among them"


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=int(25 * SECONDS), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_json_anywhere_in_a_description(tmp_path: Path, data: st.DataObject) -> None:
    description = model_description()
    container, key = data.draw(st.sampled_from(values_in(description)))
    container[key] = data.draw(_JSON)
    file = io.BytesIO()
    np.savez(file, model=np.array(json.dumps(description)), params=vector(np.float32))
    (tmp_path / "model.npz").write_bytes(file.getvalue())
    with contextlib.suppress(InputError):
        use_model(tmp_path / "model.npz")
