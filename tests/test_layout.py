"""Imports point one way: a module may import rooms below its own, and never one beside or above."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddp_numpy"
FLOOR = {"buffers", "errors", "files", "randomness", "threads"}  # what every room stands on
ROOMS = {"nn", "optim", "data", "comm", "checkpoint", "metrics"}
MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(FLOOR | ROOMS - {"checkpoint"}, FLOOR),
    "run_folder": FLOOR | {"checkpoint", "metrics", "nn"},
    "checkpoint": FLOOR | {"nn"},  # a model file is rebuilt from layers
    "exchange": FLOOR | {"comm", "nn"},
    "replicas": FLOOR | {"comm", "nn"},
    "trainer": FLOOR | ROOMS | {"exchange", "replicas"},
    "watchdog": FLOOR,
    "report": FLOOR | {"metrics"},
    "cli": FLOOR | {"comm"},
    "train": FLOOR | ROOMS | {"trainer", "report", "run_folder", "watchdog", "cli", ""},
    "verify": FLOOR | {"checkpoint", "nn", ""},
    "probe": FLOOR | {"comm", "cli", ""},
    "": FLOOR | ROOMS | {"trainer"},
}


def room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_rooms(tree: ast.Module) -> set[str]:
    """The rooms of the package that a module's code imports, also inside functions, but not for types alone."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body.clear()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names.add(str(node.module))
    parts = [name.split(".") for name in names]
    return {p[1] if len(p) > 1 else "" for p in parts if p[0] == "ddp_numpy"}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = room(path)
    assert imported_rooms(ast.parse(path.read_text())) <= MAY_IMPORT[own] | ({own} if own else set())


def test_mpi4py_is_imported_in_one_place() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Import) and any(a.name.startswith("mpi4py") for a in node.names))
        or (isinstance(node, ast.ImportFrom) and str(node.module).startswith("mpi4py"))
    }
    assert users == {"comm/mpi.py"}
