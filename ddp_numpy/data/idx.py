"""Labelled images from four IDX files, the form of MNIST and similar data sets (http://yann.lecun.com/exdb/mnist)."""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.dataset import Array

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
TRAIN, VALIDATION = "train", "t10k"
_GZIP_MAGIC = b"\x1f\x8b"


def read_idx_split(folder: Path, split: str) -> tuple[Array, Array]:
    """The pixels (n, height * width), uint8, and labels (n,) of one split ("train" or "t10k") of a folder."""
    images_path, labels_path = _find(folder, f"{split}-{IMAGES}"), _find(folder, f"{split}-{LABELS}")
    images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1)
    if len(images) != len(labels):
        raise InputError(f"{labels_path}: has {len(labels):,} labels for {len(images):,} images in {images_path.name}")
    if not len(images):
        raise InputError(f"{images_path}: holds no images")
    return images.reshape(len(images), -1), labels


def read_idx(path: Path, dimensions: int) -> Array:
    """The array of unsigned bytes in an IDX file, gzipped or not; its number of dimensions is checked."""
    data = path.read_bytes()
    if data.startswith(_GZIP_MAGIC):
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise InputError(f"{path}: the gzip file is cut short or damaged ({error}); copy it again") from None
    header = 4 + 4 * dimensions
    magic = int.from_bytes(data[:4], "big")
    expected = 0x0800 + dimensions  # 0x08: unsigned bytes; then the number of dimensions: 0x0803 is 2051
    if len(data) < header or magic != expected:
        raise InputError(f"{path}: not the IDX file it should be: magic number {magic}, expected {expected}")
    shape = struct.unpack(f">{dimensions}I", data[4:header])
    if len(data) - header != math.prod(shape):
        sizes = " x ".join(f"{size:,}" for size in shape)
        raise InputError(
            f"{path}: wrong size: its header says {sizes} bytes, but {len(data) - header:,} follow; copy it again"
        )
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise InputError(f"{folder}: has no {name} or {name}.gz; a folder must hold the four IDX files of MNIST")
