"""Which file the tests of an exercise take, and how they tell what is wrong: in a sentence, not a traceback."""

import importlib.util
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from types import ModuleType

import pytest
from jobs import Job, run_job

_COURSE = Path(__file__).parent
_GAP = "NotImplementedError: exercise: "


def pytest_addoption(parser: pytest.Parser) -> None:
    """The option that tests other files, such as the solutions."""
    parser.addoption("--answers", metavar="FOLDER", type=Path, default=_COURSE, help="test what was written there")


@pytest.fixture
def exercise_path(request: pytest.FixtureRequest) -> Path:
    """The file that this test is about: of 3-ring/test_ring.py, FOLDER/3-ring/ring.py."""
    answers: Path = request.config.getoption("--answers", _COURSE)
    path = answers.resolve() / request.path.parent.name / request.path.name.removeprefix("test_")
    if not path.exists():
        pytest.fail(f"there is no {path}: --answers takes a folder with folders such as {path.parent.name}", False)
    return path


@pytest.fixture
def exercise(exercise_path: Path) -> ModuleType:
    """The same file as a module."""
    spec = importlib.util.spec_from_file_location(exercise_path.stem, exercise_path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_python(request: pytest.FixtureRequest, exercise_path: Path, tmp_path: Path) -> Callable[..., Job]:
    """Runs Python with arguments on so many ranks (None: without mpirun), in a copy of the exercise's folder.

    A gap that a rank meets ends the test with the gap's sentence.
    """
    shutil.copytree(request.path.parent, tmp_path, dirs_exist_ok=True)
    shutil.copy(exercise_path, tmp_path)

    def run(ranks: int | None, *arguments: str, **env: str) -> Job:
        job = run_job(ranks, *arguments, cwd=tmp_path, env=env)
        if (start := job.err.find(_GAP)) >= 0:
            raise NotImplementedError(job.err[start:].splitlines()[0].removeprefix("NotImplementedError: "))
        return job

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of a test's own assertion, and of a gap, show the sentence alone; of any other exception the whole traceback."""
    report = yield
    if call.excinfo is not None:
        error = call.excinfo.value
        own = isinstance(error, AssertionError) and call.excinfo.traceback[-1].path == item.path
        if own or (isinstance(error, NotImplementedError) and str(error).startswith("exercise: ")):
            report.longrepr = str(error).split("\nassert ")[0]  # pytest appends the values that it compared
    return report
