"""Makes the data files that tests train on."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from ddp_numpy import InputError, SingleProcess, load_data


def classified_rows(rows: int, features: int = 12, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Features (rows, features) of 0..255 and labels that can be learnt from them."""
    rng = np.random.default_rng(3)
    centres = rng.integers(40, 216, (classes, features))
    y = np.arange(rows) % classes
    X = np.clip(centres[y] + rng.normal(0, 30, (rows, features)), 0, 255).astype(np.uint8)
    return X, y


def write_csv(path: Path, X: np.ndarray, y: np.ndarray) -> Path:
    """Write a CSV file with a header, its label column first."""
    lines = ["label," + ",".join(f"x{i}" for i in range(X.shape[1]))]
    lines += [f"{label}," + ",".join(map(str, row)) for row, label in zip(X.tolist(), y.tolist(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_known_csv(path: Path, X: np.ndarray, y: np.ndarray) -> Path:
    """The same, and read it once, so that jobs find the rows in the cache. Each would need 0.3 s to import pandas."""
    write_csv(path, X, y)
    with suppress(InputError):  # a table that only some options can read
        load_data(str(path), SingleProcess())
    return path
