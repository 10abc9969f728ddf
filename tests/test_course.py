"""The course: its tests pass with the solutions, and tell students of gaps and mistakes in sentences."""

import ast
import importlib.util
import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from in_examples import EXAMPLES, commands, copied, shell
from jobs import Job, run_job

import ddp_numpy.scaling.__main__
import ddp_numpy.verify

COURSE = EXAMPLES / "course"
TEACHING = COURSE / "teaching.md"
EXERCISES = sorted(path.name for path in COURSE.glob("[0-9]-*"))
STARTING_JOBS = ("3-ring", "5-straggler", "6-a-bit")  # several, which take their time
# By exercise: in the solution, what a student may write in place of what is right, and words of the sentence about it.
MISTAKES = {
    "1-backward": (
        ("X.T @ dY, dY.sum(axis=0)", "X.T @ dY, dY.mean(axis=0)", "db is not the slope of the loss. b[o] changes"),
        ("dY * (X > 0)", "dY * (X >= 0)", "where X is 0, take 0 as the derivative"),
        ("dlogits / global_rows", "dlogits / len(y)", "7 rows of a global batch of 64 must be divided by 64, not by 7"),
        (" - logits.max(axis=1, keepdims=True))\n    d", ")\n    d", "logits of 1000 make it inf or nan"),
    ),
    "2-shards": (
        ("rows * rank // size, rows * (rank + 1) // size", "rank * (rows // size), (rank + 1) * (rows // size)",
         "10 rows on 4 ranks are shared as [2, 2, 2, 2]: 2 rows are on no rank"),
        ("(X @ w - y) / global_rows", "(X @ w - y) / max(1, len(y))", "the sum over two ranks is twice the gradient"),
        ("range(0, rows, batch_size)", "range(0, rows - batch_size + 1, batch_size)",
         "batches(10, 4) makes batches of [4, 4] rows: 2 rows are in no batch"),
    ),
    "3-ring": (
        ("other, source=left)\n        received += other", "other, source=left)\n        received[...] = other",
         "Draw on paper which piece each rank sends and receives"),
        ("2 * (size - 1) / size * nbytes", "2 * (size - 1) * nbytes", "bytes_sent of 1200 bytes on 2 ranks"),
        ("    return algbw(nbytes, seconds) * 2 * (size - 1) / size", "    return algbw(nbytes, seconds)",
         "2000 * 6 / 4 is 3000"),
    ),
    "4-means": (
        ("n = factor * ranks", "n = ranks", "Uneven sizes alone don't do it"),
        ("1 / len(sizes) - sizes / sizes.sum()", "sizes / sizes.sum() - 1 / len(sizes)", "has the wrong sign"),
        ("axes=1) / sizes.sum()", "axes=1) / len(sizes)", "is not the mean over all rows. sizes[r] * means[r]"),
    ),
    "5-straggler": (
        ("began.argmax(axis=0)", "began.argmin(axis=0)", "Who waits least is the one who is waited for"),
        ("rank if came_last[rank] > calls / 2 else None", "rank", "return None, as it is now this rank"),
        ("(began.max(axis=0) - without.max(axis=0)).mean()", "began[rank].mean() - without.mean()",
         "In the first call all others were there at 1.25"),
    ),
    "6-a-bit": (
        ("x.view(np.uint32)", "x.astype(np.uint32)", "shows the same memory as whole numbers, x.astype copies"),
        ("if calls == update and", "if calls >= update and", "flip once, and only if the element lies in a run"),
        ("X[::-1], dY[::-1]", "X[::-1], dY", "X and dY must be reversed together"),
    ),
}  # fmt: skip


def run_tests(*arguments: str | Path) -> Job:
    """Run the course's tests as a student does."""
    command = ("-m", "pytest", "-p", "no:cacheprovider", *arguments)
    return run_job(None, *command, cwd=COURSE, env={"PYTEST_ADDOPTS": ""})  # whatever these tests are run with


def without_most_jobs(ring_ranks: int) -> tuple[str, ...]:
    """All tests that start no job, and of those that do the ring on so many ranks."""
    return ("-k", f"not real_ranks or ring_allreduce_on_real_ranks[{ring_ranks}]")


def told(job: Job) -> dict[str, str]:
    """By test, what its failure shows."""
    failures = job.out.split(" FAILURES ", 1)[1].split(" short test summary info ", 1)[0]
    parts = re.split(r"^_{3,} (\S+) _{3,}$", failures, flags=re.MULTILINE)[1:]
    shown = {test: text.strip("\n=") for test, text in zip(parts[::2], parts[1::2], strict=True)}
    assert f"{len(shown)} failed" in job.out
    return shown


def functions(path: Path) -> dict[str, tuple[str, str | None]]:
    """By name, the arguments and the docstring of each function."""
    found = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return {node.name: (ast.unparse(node.args), ast.get_docstring(node)) for node in found}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in STARTING_JOBS)) for name in EXERCISES]
)
def test_the_solution_passes_and_answers_the_exercise(name: str) -> None:
    (path,) = (COURSE / "solutions" / name).glob("*.py")
    assert functions(path) == functions(COURSE / name / path.name)
    job = run_tests(COURSE / name, "--answers", COURSE / "solutions")
    assert job.status == 0, job.out + job.err


def test_a_gap_is_told_in_a_sentence() -> None:
    job = run_tests(*(COURSE / name for name in EXERCISES), *without_most_jobs(1))
    assert job.status == 1, job.out + job.err
    assert " passed" not in job.out
    assert all(f"FAILED {name}/" in job.out for name in EXERCISES)
    for test, shown in told(job).items():
        assert re.fullmatch(r"exercise: write \w+ in \w+\.py(, with .*)?", shown), test


def test_a_mistake_is_told_in_a_sentence(tmp_path: Path) -> None:
    shutil.copytree(COURSE / "solutions", tmp_path, dirs_exist_ok=True)
    for name, mistakes in MISTAKES.items():
        (path,) = (tmp_path / name).glob("*.py")
        text = path.read_text()
        for right, wrong, _ in mistakes:
            assert text.count(right) == 1, right
            text = text.replace(right, wrong)
        path.write_text(text)
    job = run_tests(*(COURSE / name for name in EXERCISES), "--answers", tmp_path, *without_most_jobs(2))
    assert job.status == 1, job.out + job.err
    shown = told(job)
    assert not [test for test, text in shown.items() if "\n" in text], job.out  # each is one line, and no traceback
    for name, mistakes in MISTAKES.items():
        for _, wrong, words in mistakes:
            assert words in TEACHING.read_text()
            assert any(words in text for text in shown.values()), (name, wrong, job.out)


PAGES = [COURSE / "README.md", TEACHING, *(COURSE / name / "README.md" for name in EXERCISES)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(COURSE)))
def test_what_a_page_names_exists(page: Path) -> None:
    known = {
        "ddp_numpy.verify": options(ddp_numpy.verify.main) | options(ddp_numpy.scaling.__main__.main),
        "launch": options(ddp_numpy.scaling.__main__.main),
    }
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
    lines = command_lines(page)
    assert lines
    for line in lines:
        words = shlex.split(line, comments=True)
        assert all((COURSE / word).exists() for word in words if re.match(r"\d-|solutions", word)), line
        if "-m" in words:
            module, *arguments = words[words.index("-m") + 1 :]
            assert importlib.util.find_spec(module), line
            if module in known:
                assert {word for word in arguments if word.startswith("-")} <= known[module], line


@pytest.mark.slow
@pytest.mark.parametrize("name", EXERCISES)
def test_the_commands_of_a_page_run_with_the_solution(name: str, tmp_path: Path) -> None:
    folder = copied("course", tmp_path)
    shutil.copytree(folder / "solutions", folder, dirs_exist_ok=True)
    for line in command_lines(COURSE / name / "README.md"):
        if "pytest" not in line:
            job = shell("-c", line, cwd=folder)
            assert job.status == ("ddp_numpy.verify" in line), (line, job)


def command_lines(page: Path) -> list[str]:
    """The commands of a page, each in one line."""
    return commands(page).replace("\\\n", " ").splitlines()


def options(command: click.Command) -> set[str]:
    """The names of a command's options."""
    return {name for option in command.params for name in (*option.opts, *option.secondary_opts)}
