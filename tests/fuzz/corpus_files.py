"""Model files, checkpoints and config.toml as a stranger might write them: valid ones, and altered ones.

Each function takes a random.Random and returns the bytes of a file. Some alterations know what a file is made of, as a
value in its description or a field of its zip: most random changes of bytes end at a checksum.
"""

import copy
import io
import json
import struct
import warnings
import zipfile
from random import Random
from typing import Any

import numpy as np

FEATURES, CLASSES, ROWS, BATCH_SIZE = 6, 3, 24, 8
_PARAMETERS = (FEATURES + 1) * 4 + (4 + 1) * CLASSES
_DEEP: Any = []
for _ in range(300):
    _DEEP = [_DEEP]

# Values where others belong: of JSON, of TOML if it has them, and for arrays.
_NUMBERS = [0, 1, -1, 2, 3, 8, 1.5, 0.5, -0.0, 1e308, 5e-324, 10**9, 2**31, 2**63, 10**30, 10**400, -(2**63)]
_NUMBERS += [float("nan"), float("inf"), float("-inf")]
_TEXTS = ["", "x", "all", "8", "0", "auto", "float64", "steps", "Dense", "ReLU", "os.system", "NaN", "\u0663", "1,,2"]
_TEXTS += ["a\0b", "\ud800", "\x1b[31mred", "two\nlines", "../../etc/passwd", "x" * 5000, "9" * 5000, "8" + ",8" * 999]
_VALUES: list[Any] = [*_NUMBERS, *_TEXTS, None, True, False, [], {}, [1], [[1]], {"a": 1}, [None], _DEEP, [1, "steps"]]
_VALUES += [{"type": "Dense", "outputs": 3}, {"type": "Dense"}, [{"type": "ReLU"}]]
_NAMES = ["type", "outputs", "epoch", "model", "params", "format", "self", "__class__", "lr", "keep", "", "a.b", "\0"]


def model_file(random: Random) -> bytes:
    """A file as save_model writes it, perhaps altered."""
    return _archive(random, "model", model_description(), {"params": vector(np.float32)})


def model_description() -> dict[str, Any]:
    """What a model file says of its model."""
    return {"format": "ddp_numpy model 1", **_model()}


def checkpoint_file(random: Random) -> bytes:
    """A checkpoint of a run of this model in the middle of its second epoch, perhaps altered."""
    arrays = {"params": vector(np.float32), "epoch_sums": np.array([9.5, 5, BATCH_SIZE])}
    arrays["optimizer.velocity"] = vector(np.float32)
    facts = {
        "options": {
            "batch-size": BATCH_SIZE, "checkpoint-every": [1, "epochs"], "clip-norm": 5.0, "data": "/data/table.csv",
            "divisor": 255.0, "dtype": "float32", "epochs": 3, "hidden": "4", "keep": 3, "lr": 0.05, "momentum": 0.9,
            "reproducible": False, "seed": 1,
        },
        "best": {"epoch": 1, "valid_accuracy": 0.5},
        "trajectory": {"model": random.choice([_model(), "6 -> 4 ReLU -> 3"]), "SHA-256 of the training rows": "0"},
        "blas": "OpenBLAS",
        "overrides": [{"epoch": 1, "step": 0, "option": "lr", "was": 0.5, "now": 0.05}],
    }  # fmt: skip
    description = {"format": "ddp_numpy checkpoint 1", "epoch": 1, "step": 1, "facts": facts, "arrays": list(arrays)}
    return _archive(random, "checkpoint", description, arrays)


def config_file(random: Random) -> bytes:
    """A TOML file of options, perhaps altered."""
    lines = [
        'data = "table.csv"', "valid-fraction = 0.2", 'hidden = "4"', "epochs = 3", "batch-size = 8", "lr = 0.05",
        "momentum = 0.9", "seed = 1", "keep = 3", 'checkpoint-every = [1, "epochs"]', "reproducible = false",
        'out = "run"', 'label-column = "label"', "stall-timeout = 300.0",
    ]  # fmt: skip
    if random.random() < 0.7:
        number = random.randrange(len(lines))
        name = lines[number].split(" = ")[0]
        lines[number] = f"{name} = {random.choice(_TOML_VALUES)}"
    if random.random() < 0.2:
        lines.insert(
            random.randrange(len(lines)), random.choice([lines[0], "[epochs]", "[[lr]]", "a.b.c = 1", "=", "#"])
        )
    data = "\n".join(lines).encode(errors="surrogatepass")
    return _alter_bytes(random, data) if random.random() < 0.4 else data


_TOML_VALUES = [json.dumps(value) for value in [*_TEXTS, 0, 1, -1, 1.5, 10**30, True, [], [1], [[]], [1, "steps"]]]
_TOML_VALUES += ["nan", "inf", "-inf", "1e400", "9" * 5000, "0x" + "f" * 6000, "1979-05-27", "07:32:00", "{a = 1}"]
_TOML_VALUES += [
    "[" * 5000 + "]" * 5000,
    "{a=" * 3000,
    "1979-05-27T07:32:00Z",
    "'''\n\n'''",
    '"\\uD800"',
    "\ud800",
    "٣",
]


def _model() -> dict[str, Any]:
    layers = [{"type": "Dense", "outputs": 4}, {"type": "ReLU"}, {"type": "Dense", "outputs": CLASSES}]
    return {"input_shape": [FEATURES], "input_divisor": 255.0, "classes": CLASSES, "layers": layers}


def vector(dtype: type) -> np.ndarray:
    """As many numbers as the model has parameters."""
    return np.random.default_rng(1).normal(size=_PARAMETERS).astype(dtype)


def _archive(random: Random, member: str, description: dict[str, Any], arrays: dict[str, np.ndarray]) -> bytes:
    description, arrays = copy.deepcopy(description), dict(arrays)
    way = random.randrange(8)
    if way in (1, 2, 3):
        for _ in range(random.choice([1, 1, 1, 2, 4])):
            _alter_value(random, description)
    text = json.dumps(description)
    if way == 4:
        text = _alter_text(random, text)
    described = np.array(text) if random.random() < 0.98 else np.array(text.encode(errors="replace"))
    if way == 5:
        _alter_array(random, arrays)
        if random.random() < 0.2:
            described = random.choice(
                [described.reshape(1), np.zeros(3), described.astype(described.dtype.newbyteorder())]
            )
        if random.random() < 0.1 and described.dtype.kind == "U":
            described = np.frombuffer(random.randbytes(described.nbytes), described.dtype)[0:1].reshape(())
    members = {member: described, **arrays}
    data = _zipped(random, members, careless=way == 6)
    if way == 6:
        data = _alter_zip(random, data)
    return _alter_bytes(random, data) if way == 7 else data


def _zipped(random: Random, members: dict[str, np.ndarray], careless: bool) -> bytes:
    file = io.BytesIO()
    compression = random.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
    with zipfile.ZipFile(file, "w", compression) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of members that are there twice
        for name, array in members.items():
            part = io.BytesIO()
            np.lib.format.write_array(part, array, allow_pickle=True)
            data = part.getvalue()
            if careless and random.random() < 0.3:
                data = _alter_bytes(random, data)  # with a checksum that is right
            archive.writestr(name + random.choice([".npy"] * 60 + ["", ".txt"]), data)
            if careless and random.random() < 0.05:
                archive.writestr(f"{name}.npy", data)
    return file.getvalue()


def values_in(container: Any) -> list[tuple[Any, Any]]:
    """All values inside a value of JSON, however deep: what each lies in, and its key or index there."""
    found: list[tuple[Any, Any]] = []
    for key in list(container) if isinstance(container, dict) else range(len(container)):
        found.append((container, key))
        if isinstance(container[key], dict | list):
            found += values_in(container[key])
    return found


def _alter_value(random: Random, value: Any) -> None:
    """Change, add or remove one value somewhere inside a value of JSON."""
    container, key = random.choice(values_in(value))
    new = json.loads(json.dumps(random.choice(_VALUES)))  # a copy, however deep: the next change may be inside it
    act = random.random()
    if act < 0.7:
        container[key] = new
    elif act < 0.85:
        del container[key]
    elif isinstance(container, dict):
        container[random.choice(_NAMES)] = new
    else:
        container.insert(0, new)


def _alter_text(random: Random, text: str) -> str:
    place = random.choice([place for place, letter in enumerate(text) if letter in "{[:,"]) + 1
    pieces = [
        "{",
        "[" * 100_000,
        '{"a":' * 50_000,
        '"epoch": 7, ',
        '"format": "x", ',
        "NaN, ",
        "9" * 5000,
        "-",
        "\0",
        "٣",
    ]
    pieces += ["1e999, ", '"', "}", "\ud800", "0x10", "\x1b[2J", "//", "null,", "true:"]
    return text[:place] + random.choice(pieces) + text[place:]


def _alter_array(random: Random, arrays: dict[str, np.ndarray]) -> None:
    name = random.choice(list(arrays))
    array = arrays[name]
    bad = array.copy()
    bad[random.randrange(len(bad))] = random.choice([np.nan, np.inf, -np.inf, 3e38, -0.0])
    with np.errstate(all="ignore"):
        arrays[name] = random.choice(
            [
                bad, array[:1], array[0].reshape(()), array[:-1], array.reshape(1, -1), array.astype(np.int32),
                array.astype(array.dtype.newbyteorder()), array.astype(np.float64), array.astype(np.float16),
                array.astype(np.complex64), array.astype("U5"), array.astype("M8[s]"), array.astype(object),
                array.astype([("a", "f4")]), np.zeros(0, array.dtype), np.concatenate([array, array]), array > 0,
                array.astype("S4"), array.astype("V4"), np.zeros((0, 10**9), np.float32), array.astype(np.longdouble),
            ]
        )  # fmt: skip
    if random.random() < 0.2:
        arrays[random.choice(["extra", "buffers", "optimizer.x", "params ", "a/../b", "checkpoint", "model"])] = array
    if random.random() < 0.1:
        del arrays[name]


def _alter_zip(random: Random, data: bytes) -> bytes:
    """Change a field of the zip's own records: sizes, flags, method, checksum, offsets."""
    heads = [(place, mark) for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6") for place in _places(data, mark)]
    place, mark = random.choice(heads)
    fields = {
        b"PK\1\2": (6, 8, 10, 16, 20, 24, 28, 42),
        b"PK\3\4": (4, 6, 8, 14, 18, 22, 26),
        b"PK\5\6": (8, 10, 12, 16),
    }
    offset = place + random.choice(fields[mark])
    number = random.choice([0, 1, 2, 8, 9, 12, 14, 93, 0x800, 0xFFFF, random.getrandbits(16)])
    return data[:offset] + struct.pack("<H", number) + data[offset + 2 :]


def _places(data: bytes, mark: bytes) -> list[int]:
    return [place for place in range(len(data)) if data.startswith(mark, place)]


def _alter_bytes(random: Random, data: bytes) -> bytes:
    altered = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 5, 50])):
        if not altered:
            break
        place = random.randrange(len(altered))
        act = random.random()
        if act < 0.6:
            altered[place] = random.choice([0, 1, 0x20, 0x7F, 0x80, 0xFF, altered[place] ^ 1 << random.randrange(8)])
        elif act < 0.8:
            del altered[place : place + random.choice([1, 4, 100])]
        elif act < 0.95:
            altered[place:place] = random.choice([b"\0", b"PK\3\4", b"\x93NUMPY", random.randbytes(8)])
        else:
            del altered[place:]
    return bytes(altered)
