"""onnxruntime for browsers, fetched once from the npm registry, for the page that shows that it reads the same."""

import tarfile
from pathlib import Path

from ddp_numpy.base.errors import InputError
from ddp_numpy.base.messages import one_line
from ddp_numpy.data import cache_folder

VERSION = "1.30.0"
_URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
_SHA512 = (  # as the registry has it
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
_LICENSE = Path(__file__).with_name("onnxruntime-LICENSE.txt")


def runtime_files(url: str = _URL, checksum: str = _SHA512) -> dict[str, bytes]:
    """What the page needs of onnxruntime-web, by name, with its licence: 14 MB. Downloaded once into the user's cache.

    Raises InputError if it can't be had, or is another file than the checksum says.
    """
    import pooch

    pooch.get_logger().setLevel("ERROR")
    folder, downloader = cache_folder() / "onnxruntime-web", pooch.HTTPDownloader(timeout=30)
    try:
        path = pooch.retrieve(url, f"sha512:{checksum}", f"{VERSION}.tgz", folder, downloader=downloader)
        with tarfile.open(path) as archive:
            members = (archive.extractfile(f"package/dist/{name}") for name in _FILES)
            files = {name: file.read() for name, file in zip(_FILES, members, strict=True) if file is not None}
    except (OSError, ValueError, KeyError, tarfile.TarError) as error:
        raise InputError(f"--onnxruntime: can't download {url} ({one_line(error)}); leave the option out") from None
    return {**files, "LICENSE.txt": _LICENSE.read_bytes()}
