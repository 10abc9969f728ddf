"""Imports point one way: a room may import the rooms it stands on, and never one beside or above it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ddp_numpy"
BASE = {"base"}
LIBRARY = BASE | {"nn", "optim", "data", "comm"}
# By room, or by module at the top of the package ("" is the package itself), the rooms whose code it may import.
MAY_IMPORT: dict[str, set[str]] = {
    "base": set(),
    "nn": BASE,
    "optim": BASE,
    "data": BASE,
    "comm": BASE,
    "exchange": LIBRARY,
    "training": LIBRARY | {"exchange"},
    "settings": BASE,
    "reference": BASE | {"settings"},
    "runs": LIBRARY | {"training", "settings"},
    "": LIBRARY | {"exchange", "training", "runs"},
    "pages": BASE,
    "deploy": LIBRARY | {"pages", "training", "runs"},
    "predict": LIBRARY | {"deploy", "runs", "cli", ""},
    "evaluate": LIBRARY | {"deploy", "runs", "cli", ""},
    "dashboard": BASE | {"deploy", "runs", "cli"},
    "serve": LIBRARY | {"deploy", "runs", "cli"},
    "export": LIBRARY | {"deploy", "making", "runs", "settings", "cli", ""},
    "cli": BASE | {"comm", "settings"},
    "making": LIBRARY | {"exchange", "training", "runs", "settings"},
    "train": LIBRARY | {"making", "training", "runs", "settings", "cli", ""},
    "estimators": LIBRARY | {"making", "settings"},
    "crossvalidate": LIBRARY | {"making", "training", "runs", "settings", "cli", ""},
    "verify": LIBRARY | {"making", "runs", "settings", ""},
    "scaling": LIBRARY | {"making", "pages", "probe", "training", "runs", "settings", "cli", ""},
    "probe": BASE | {"comm", "cli", ""},
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
