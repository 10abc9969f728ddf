"""The code of a --model-file: layers of one's own, and the network that training is to build."""

import sys
from pathlib import Path
from types import ModuleType

import click

from ddp_numpy.base.errors import InputError
from ddp_numpy.comm import Communicator
from ddp_numpy.nn import Layer

_NAME = "model_file"

model_file_option = click.option(
    "--model-file",
    type=click.Path(path_type=Path),
    metavar="FILE.py",
    help="Python code with layers of your own that the model has, as in training. It is run.",
)


def read_code(path: Path) -> str:
    """The text of the file. Raises InputError if it can't be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"--model-file {path}: {error.strerror or error}") from error
    except ValueError:
        raise InputError(f"--model-file {path}: is not a file of Python code, in UTF-8") from None


def run_code(code: str, path: Path) -> ModuleType:
    """What the code defines. Raises whatever it raises."""
    module = ModuleType(_NAME)
    module.__file__ = str(path)
    sys.modules[_NAME] = module  # where pickle looks for its classes, when rank 0 sends a model to the others
    exec(compile(code, path, "exec"), vars(module))
    return module


def own_layers(path: Path | None, comm: Communicator) -> list[type[Layer]]:
    """The layers that the code of rank 0 defines, for load_model; none if there is no file. Collective."""
    if path is None:
        return []
    code = comm.on_root(lambda: read_code(path))
    defined = vars(run_code(code, path)).values()
    return [found for found in defined if isinstance(found, type) and issubclass(found, Layer)]
