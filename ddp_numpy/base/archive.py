"""Reads .npz files of which any byte may be wrong, or written by a stranger on purpose."""

import errno
import math
import os
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import open_regular
from ddp_numpy.base.memory import memory_bytes
from ddp_numpy.base.messages import one_line

Array = npt.NDArray[Any]

_ENDING = ".npy"
_ENCRYPTED = 0x1  # a bit of a zip member's flags
# Version 3 of the .npy format is for the names of columns alone, and plain arrays have no columns.
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class Damaged(Exception):  # noqa: N818
    """The file is not an .npz of plain arrays, or was altered. The text says what is wrong, but does not name the file.

    Also raised for arrays that are larger than they may be, or than memory.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(one_line(reason))  # names of arrays come from the file


def read_arrays(path: Path, names: Collection[str] | None = None) -> dict[str, Array]:
    """All arrays of a .npz file by name, or those with these names. Never unpickles.

    An array is allocated only after its size was found to be what the zip directory says. Raises Damaged, also if one
    of the names is not there; OSError as open() does; InputError for what is no regular file.
    """
    with open_regular(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = _choose(archive.infolist(), names)
                size = sum(member.file_size for member in members.values())
                if size > memory_bytes():
                    raise Damaged(f"its arrays have {size:,} bytes, more than this machine has memory")
                file_size = os.fstat(file.fileno()).st_size
                return {name: _read(archive, member, file_size) for name, member in members.items()}
        except (Damaged, InputError):
            raise
        except Exception as error:
            # An altered byte can be anything to the readers of zip and .npy, for example a size, a compression method
            # or a part of a Python expression. So they raise errors of many kinds, and each version raises others.
            if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):  # the disk, not the bytes
                raise
            reason = str(error) or type(error).__name__
            raise Damaged(f"not a .npz file of plain arrays, or a damaged one: {reason}") from error


def _choose(members: list[zipfile.ZipInfo], names: Collection[str] | None) -> dict[str, zipfile.ZipInfo]:
    """The members with these names, by default all. Raises Damaged for a name that is missing or there twice."""
    counts = Counter(member.filename for member in members)
    if names is None:
        names = [name.removesuffix(_ENDING) for name in counts]
    for name in names:
        if counts[f"{name}{_ENDING}"] == 0:
            needed = f"arrays {' and '.join(names)} are needed" if len(names) > 1 else "it is needed"
            raise Damaged(f"has no array {name}; {needed}, found {', '.join(counts) or 'none'}")
        if counts[f"{name}{_ENDING}"] > 1:
            raise Damaged(f"has more than one array {name}")
    by_name = {member.filename: member for member in members}
    return {name: by_name[f"{name}{_ENDING}"] for name in names}


def _read(archive: zipfile.ZipFile, member: zipfile.ZipInfo, file_size: int) -> Array:
    """One array. Zip compares its CRC-32 with the one that was noted when it was written."""
    name = member.filename
    if member.flag_bits & _ENCRYPTED:
        raise Damaged(f"{name} is encrypted")
    if member.compress_type == zipfile.ZIP_STORED and not member.file_size == member.compress_size < file_size:
        raise Damaged(f"{name} does not have the size that it says")
    with archive.open(member) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about what Python 2 wrote, and about escapes in a header of nonsense
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise Damaged(f"{name} is not an array of plain values")
        shape, _, dtype = _HEADERS[version](file)
        if dtype.hasobject or dtype.names or dtype.subdtype or not dtype.itemsize:
            raise Damaged(f"{name} holds {dtype}, not plain values")
        if min(shape, default=0) < 0 or file.tell() + math.prod(shape) * dtype.itemsize != member.file_size:
            raise Damaged(f"{name} does not have the size that its shape {shape} needs")
    with archive.open(member) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array: Array = np.lib.format.read_array(file, allow_pickle=False)
        except MemoryError:
            raise Damaged(f"{name} has {member.file_size:,} bytes, more than the memory that is left") from None
    return array
