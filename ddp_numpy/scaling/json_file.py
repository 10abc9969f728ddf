"""Small JSON files that name their format: written whole, and each value checked when they are read again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ddp_numpy.base import schema
from ddp_numpy.base.errors import InputError
from ddp_numpy.base.files import atomic_write, open_regular, writing

_LARGEST_BYTES = 2**24


@dataclass(frozen=True)
class JsonFormat:
    """What such a file has in it."""

    name: str
    """With a version."""
    members: dict[str, schema.Schema]
    """Beside its name."""
    otherwise: str
    """What to do about a file that is not of it, for people."""

    def encoded(self, **members: Any) -> bytes:
        """The contents of a file."""
        return json.dumps({"format": self.name, **members}, indent=1).encode() + b"\n"

    def write(self, path: Path, **members: Any) -> None:
        """Write a file. Raises InputError if that can't be done."""
        with writing(path), atomic_write(path) as file:
            file.write(self.encoded(**members))

    def read(self, path: Path) -> dict[str, Any]:
        """The members of a file. Raises InputError if it can't be read, is damaged, or of another version."""
        try:
            with open_regular(path) as file:
                found: dict[str, Any] = schema.from_json(file.read(_LARGEST_BYTES).decode())
            schema.check(found, {"format": schema.OneOf(self.name), **self.members}, "it")
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except (ValueError, InputError) as error:
            raise InputError(f"{path}: is damaged, or of another version: {error}; {self.otherwise}") from None
        del found["format"]
        return found
