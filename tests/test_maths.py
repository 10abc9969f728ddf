"""The documentation names what exists, and its mathematics says which function computes each formula."""

import pkgutil
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [page for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts]
MATHS = sorted((DOCS / "maths").glob("*.md"))
NAME = re.compile(r"(?<![\w./-])ddp_numpy(?!\.(?:py|sif)\b)(?:\.[A-Za-z_]\w*)+")  # and no file or part of a path
COMPUTED = re.compile(r"[Cc]omputed(?:\s[^.`]*)?\s`ddp_numpy\.[\w.]+`|No function of the\spackage computes")


def sections(text: str) -> dict[str, str]:
    """By heading of the second level, what stands below it; code is left out."""
    _, *found = re.split(r"^## ", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), flags=re.MULTILINE)
    return {heading: body for heading, _, body in (section.partition("\n") for section in found)}


def without_function(text: str) -> list[str]:
    """The sections that have a displayed formula, and don't say by which function it is computed."""
    return [heading for heading, body in sections(text).items() if "$$" in body and not COMPUTED.search(body)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_every_name_in_the_documentation_exists(page: Path) -> None:
    names = set(NAME.findall(page.read_text()))
    if any(name.startswith("ddp_numpy.estimators") for name in names):
        pytest.importorskip("sklearn", reason="scikit-learn, of the extra sklearn, is not installed")
    for name in sorted(names):
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError) as error:
            pytest.fail(f"{name}: {error}")


@pytest.mark.parametrize("page", MATHS, ids=lambda page: page.name)
def test_every_formula_names_the_function_that_computes_it(page: Path) -> None:
    assert without_function(page.read_text()) == []


def test_all_pages_of_mathematics_are_looked_at() -> None:
    formulas = {page.stem: page.read_text().count("$$") // 2 for page in MATHS}
    assert formulas.keys() > {"network", "convolution", "batch-norm", "adam", "parallel", "two-cuts", "rounding"}
    assert all(count >= 5 for name, count in formulas.items() if name != "index")


@pytest.mark.parametrize(
    "name", ["ddp_numpy.nn.layers.Dense.forwards", "ddp_numpy.nn.dense.Dense", "ddp_numpy.nn.layers.Dens"]
)
def test_a_wrong_name_is_found(name: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"Computed by `{name}`, see ddp_numpy/nn/dense.py, examples/ddp_numpy.py and ddp_numpy.sif.\n")
    assert NAME.findall(page.read_text()) == [name]
    with pytest.raises(pytest.fail.Exception, match=name):
        test_every_name_in_the_documentation_exists(page)


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("## A\n$$x$$\nComputed by `ddp_numpy.nn.Dense`.\n## B\nThe same of `ddp_numpy.nn.ReLU`.\n$$y$$\n", ["B"]),
        ("## A\n$$x$$\n```python\n# Computed by `ddp_numpy.nn.Dense`.\n```\n", ["A"]),
        ("## A\n$x$, and code alone:\n```sh\necho $$\n```\n", []),
        ("## A\n$$x$$\n$dX$ is computed as usual, by\n`ddp_numpy.nn.Dense`.\n", []),
        ("## A\n$$x$$\nNo function of the\npackage computes it.\n", []),
    ],
)
def test_a_formula_without_a_function_is_found(text: str, missing: list[str]) -> None:
    assert without_function(text) == missing
