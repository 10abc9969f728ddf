"""The notebooks of the documentation: text and notebook are the same, and all cells run."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jobs import MARK, STAY, gone_within, kill, left_of

pytest.importorskip("nbclient", reason="nbclient, of the extra notebooks, is not installed")
pytest.importorskip("jupytext", reason="jupytext, of the extra notebooks, is not installed")

import jupytext
import nbformat
from jupytext.cli import jupytext as command
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "notebooks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.md") if path.stem != "index")
CELL_SECONDS = 300  # a cell that takes longer hangs; on a busy machine a cell takes less


def test_each_text_has_its_notebook() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_what_its_text_says(name: str) -> None:
    assert not differences(jupytext.read(FOLDER / f"{name}.md"), nbformat.read(FOLDER / f"{name}.ipynb", as_version=4))


def differences(text: Any, notebook: Any) -> list[str]:
    """In what a notebook is not as it is made from its text."""
    found = []
    for number, (wanted, cell) in enumerate(zip(text.cells, notebook.cells, strict=False), 1):
        wanted, cell = ({name: value for name, value in one.items() if name != "id"} for one in (wanted, cell))
        found += [f"cell {number}"] if wanted != cell else []  # outputs and their numbers are empty in both
    if len(text.cells) != len(notebook.cells):
        found.append("number of cells")
    if text.metadata["kernelspec"] != notebook.metadata["kernelspec"]:
        found.append("kernel")
    return found


def test_a_changed_notebook_is_found() -> None:
    text, notebook = (jupytext.read(FOLDER / f"{NAMES[0]}.md") for _ in range(2))
    notebook.cells[3].source += " "
    notebook.cells[-2].outputs = [nbformat.v4.new_output("stream", text="left behind")]
    del notebook.cells[-1]
    assert differences(text, notebook) == ["cell 4", f"cell {len(text.cells) - 1}", "number of cells"]


@pytest.mark.parametrize("name", NAMES)
def test_making_a_notebook_again_changes_nothing(name: str, tmp_path: Path) -> None:
    for kind in ("md", "ipynb"):
        shutil.copy(FOLDER / f"{name}.{kind}", tmp_path)
    command(["--quiet", "--update", "--to", "ipynb", str(tmp_path / f"{name}.md")])
    assert (tmp_path / f"{name}.ipynb").read_bytes() == (FOLDER / f"{name}.ipynb").read_bytes()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the notebooks, which is also the mark of all processes of a kernel."""
    copy = tmp_path / "docs" / "notebooks"
    shutil.copytree(FOLDER, copy)
    (tmp_path / "docs" / "scaling").mkdir()
    shutil.copy(DOCS / "scaling" / "README.md", tmp_path / "docs" / "scaling")
    monkeypatch.setenv(MARK, str(copy))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    yield copy
    kill(left_of(str(copy)))


def execute(path: Path) -> Any:
    """Run all cells in the notebook's folder. Raises CellExecutionError if one of them fails."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=CELL_SECONDS, resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, folder: Path) -> None:
    before = sorted(folder.iterdir())
    notebook = execute(folder / f"{name}.ipynb")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    assert outputs
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    assert sorted(folder.iterdir()) == before, "a notebook writes to a folder of its own"
    assert gone_within(10, folder)


@pytest.mark.slow
def test_a_failing_cell_fails_and_leaves_no_process(folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    source = (
        "from launch.call import start\nwith start('run', '-n', 2, '-m', 'stay') as lines:\n"
        "    print(next(lines))\n    raise ValueError('boom')\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source), nbformat.v4.new_code_cell("1")])
    (folder / "failing.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(CellExecutionError, match=r"(?s)ValueError.*: boom"):
        execute(folder / "failing.ipynb")
    assert gone_within(10, folder)


@pytest.mark.slow
def test_a_cell_that_is_stopped_leaves_no_process(folder: Path) -> None:
    (folder / "stay.py").write_text(STAY)
    # The launcher's job runs until the kernel is interrupted, as by the square button of Jupyter.
    source = (
        "import os, signal\nfrom launch.call import start\nwith start('run', '-n', 2, '-m', 'stay') as lines:\n"
        "    next(lines), next(lines)\n    os.killpg(0, signal.SIGINT)\n    list(lines)\n"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    (folder / "stopped.ipynb").write_text(json.dumps(notebook))
    with pytest.raises(CellExecutionError, match="KeyboardInterrupt"):
        execute(folder / "stopped.ipynb")
    assert gone_within(10, folder)
