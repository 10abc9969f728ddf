"""The pages of the documentation: what a reader would type, and where it is run."""

import re
from collections.abc import Iterator
from pathlib import Path

from markdown_it import MarkdownIt

CHECKOUT = Path(__file__).parents[1]
_BUILT = ("_build", "maths", "notebooks")  # what `make docs` makes, and pages that it executes itself
PAGES = [CHECKOUT / "README.md"]
PAGES += sorted(page for page in (CHECKOUT / "docs").rglob("*.md") if page.relative_to(CHECKOUT).parts[1] not in _BUILT)

SERVER = re.compile(r"python -m ddp_numpy\.(serve|dashboard)\b(?!.*--static)")
ON_HOSTS = re.compile(r"\bnode1\b|hosts\.txt")
# What the test of pages does not run, and where it is run, or why it is nowhere.
ELSEWHERE = {
    ON_HOSTS.pattern: "tests/cluster/test_documented_hosts.py",
    r"^(sbatch|srun|salloc) ": "tests/cluster/test_slurm.py",
    r"hosts\.sh ": "makes hosts of four link rates, and takes minutes each",
    r"pip install|-m venv|venv/bin/activate": "tests/test_package.py installs the package",
    r"^make ": ".ci/run calls it",
    r"soak\.py": "a slow test: tests/faults",
    r"-m benchmarks\.": "measures for minutes",
    r"--data mnist": "trains for minutes",
    r"^(docker|apptainer|kubectl|ssh) ": "needs what a machine for tests lacks",
}


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """The language, the line and the text of each block that can be run; of a console, what was typed."""
    for token in MarkdownIt().parse(page.read_text()):
        if token.type == "fence" and token.info in ("sh", "python", "console"):
            assert token.map is not None
            text = token.content
            if token.info == "console":
                text = "\n".join(re.findall(r"(?m)^\$ ((?:.*\\\n)*.*)$", text))
            yield token.info, token.map[0] + 1, text


def lines(text: str) -> list[str]:
    """The lines of a script, each with those that continue it."""
    return re.findall(r"((?:.*\\\n)*.+)", text)
