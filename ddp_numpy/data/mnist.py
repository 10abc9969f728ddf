"""MNIST: the digits that come with the package, and the whole data set, downloaded once."""

import gzip
import io
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ddp_numpy.base.errors import InputError
from ddp_numpy.data.cache import cache_folder

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
SHA256 = {  # of the unpacked files, because mirrors may compress them differently
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


def bundled_digits() -> Path:
    """The folder of 6,000 training and 1,000 validation digits that comes with the package."""
    installed = Path(__file__).with_name("digits")
    return installed if installed.exists() else Path(__file__).parents[2] / "data" / "digits"


def image_folder(source: str | os.PathLike[str]) -> Path | None:
    """The folder of images that a source is: "digits", "mnist", which is downloaded, or a folder; None if it is none.

    Raises InputError as `download_mnist` does.
    """
    if source in ("digits", "mnist"):
        return bundled_digits() if source == "digits" else download_mnist()
    path = Path(source)
    return path if path.is_dir() else None


def download_mnist(mirrors: Sequence[str] = MIRRORS, checksums: Mapping[str, str] = SHA256) -> Path:
    """The folder of MNIST's four files, in the user's cache. Missing files are downloaded; all files are checked.

    Tries the mirrors in turn. If no mirror has the right file, raises InputError with the answer of each mirror.
    """
    folder = cache_folder() / "mnist"
    for name, checksum in checksums.items():
        _download(name, checksum, mirrors, folder)
    return folder


def _download(name: str, checksum: str, mirrors: Sequence[str], folder: Path) -> None:
    import pooch  # here, because only this one source of data needs it

    pooch.get_logger().setLevel("ERROR")  # rank 0's output is the job's, which itself says where data came from
    answers = []
    for mirror in mirrors:
        try:
            pooch.retrieve(f"{mirror}{name}.gz", f"sha256:{checksum}", name, folder, downloader=_fetch_and_unpack)
        except (OSError, EOFError, zlib.error) as error:  # requests' errors are OSErrors
            answers.append(f"{mirror}: {error}")
        except ValueError:  # pooch raises it if the checksum differs
            answers.append(f"{mirror}: checksum mismatch")
        else:
            return
    raise InputError(
        f"can't download {name}: {'; '.join(answers)}. "
        "Put the four files of MNIST into a folder and give that to --data, or use the bundled --data digits"
    )


def _fetch_and_unpack(url: str, output_file: str, _: Any) -> None:
    """A downloader for pooch that unpacks the file: pooch then checks and keeps the unpacked one."""
    import pooch

    packed = io.BytesIO()
    pooch.HTTPDownloader(timeout=30)(url, packed, None)
    Path(output_file).write_bytes(gzip.decompress(packed.getvalue()))
