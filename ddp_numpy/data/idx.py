"""Labelled images from four IDX files, the form of MNIST and similar data sets (http://yann.lecun.com/exdb/mnist)."""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.memory import memory_for_file
from ddp_numpy.data.classes import Array

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
TRAIN, VALIDATION = "train", "t10k"
_GZIP_MAGIC = b"\x1f\x8b"
_LARGEST_RATIO = 1032  # deflate makes no file smaller than by this


def read_idx_split(folder: Path, split: str) -> tuple[Array, Array]:
    """The pixels (n, height * width), uint8, and labels (n,) of one split ("train" or "t10k") of a folder."""
    images_path, labels_path = _find(folder, f"{split}-{IMAGES}"), _find(folder, f"{split}-{LABELS}")
    images, labels = read_idx(images_path, dimensions=3), read_idx(labels_path, dimensions=1)
    if len(images) != len(labels):
        raise InputError(f"{labels_path}: has {len(labels):,} labels for {len(images):,} images in {images_path.name}")
    if not images.size:
        raise InputError(f"{images_path}: holds no pixels: {_times(images.shape)} bytes")
    return images.reshape(len(images), -1), labels


def read_idx(path: Path, dimensions: int) -> Array:
    """The array of unsigned bytes in an IDX file, gzipped or not; its number of dimensions is checked."""
    with memory_for_file(path), open_regular(path) as file:
        is_packed = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        largest = os.fstat(file.fileno()).st_size * (_LARGEST_RATIO if is_packed else 1)
        file.seek(0)
        try:
            read = gzip.GzipFile(fileobj=file).read if is_packed else file.read
            return _read_array(read, path, dimensions, largest)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise InputError(f"{path}: the gzip file is cut short or damaged ({error}); copy it again") from None


def _read_array(read: Callable[[int], bytes], path: Path, dimensions: int, largest: int) -> Array:
    """The array in the file that `read` reads the next bytes of.

    largest: how many bytes can follow at most. A damaged header that asks for more gets no memory, and no more is read
    than the header says, because a small gzip file can hold endless zeros.
    """
    header = read(4 + 4 * dimensions)
    magic = int.from_bytes(header[:4], "big")
    expected = 0x0800 + dimensions  # 0x08: unsigned bytes; then the number of dimensions: 0x0803 is 2051
    if len(header) < 4 + 4 * dimensions or magic != expected:
        raise InputError(f"{path}: not the IDX file it should be: magic number {magic}, expected {expected}")
    shape = struct.unpack(f">{dimensions}I", header[4:])
    size = math.prod(shape)
    data = read(min(size, largest) + 1)
    if len(data) != size:
        follow = "more" if len(data) > size else f"{len(data):,}"
        says = f"its header says {_times(shape)} bytes, but {follow} follow"
        raise InputError(f"{path}: wrong size: {says}; copy it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(f"{size:,}" for size in shape)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.exists():
            return path
    raise InputError(f"{folder}: has no {name} or {name}.gz; a folder must hold the four IDX files of MNIST")
