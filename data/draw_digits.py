"""Draw the bundled digits from the four IDX files of MNIST.

    python data/draw_digits.py FOLDER_OF_MNIST

600 training and 100 validation images of each digit, taken at random (seed 0) from MNIST's own training and test
split and kept in their order there, go to data/digits as gzipped IDX files. The images are MNIST's, byte for byte.
"""

import gzip
import struct
import sys
from pathlib import Path

import numpy as np

from ddp_numpy.data.idx import IMAGES, LABELS, TRAIN, VALIDATION, read_idx

EACH = {TRAIN: 600, VALIDATION: 100}


def main(source: Path, target: Path) -> None:
    """Draw both splits of the folder `source` into the folder `target`."""
    rng = np.random.default_rng(0)
    for split, each in EACH.items():
        labels = read_idx(source / f"{split}-{LABELS}.gz", dimensions=1)
        images = read_idx(source / f"{split}-{IMAGES}.gz", dimensions=3)
        digits = (np.flatnonzero(labels == digit) for digit in range(10))
        rows = np.sort(np.concatenate([rng.choice(digit, each, replace=False) for digit in digits]))
        write_idx(target / f"{split}-{IMAGES}.gz", images[rows])
        write_idx(target / f"{split}-{LABELS}.gz", labels[rows])


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write an array of bytes (n, …) as a gzipped IDX file."""
    header = struct.pack(f">{1 + array.ndim}I", 0x0800 + array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))  # no time: the same bytes on every draw


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).with_name("digits"))
