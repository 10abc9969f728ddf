"""Every command and every script of the documentation is run: each page from top to bottom, in a folder of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from in_examples import activated, shell
from jobs import run_job, train
from pages import CHECKOUT, ELSEWHERE, PAGES, SERVER, blocks, lines
from tables import write_csv

from ddp_numpy import SingleProcess, load_data

SECONDS = 300  # a command that takes longer hangs


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for there: tables, pictures, a request, a script, a run."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("files")
    (folder / "data").mkdir()
    digits = load_data("digits", SingleProcess())
    for name, rows in zip(("train", "test"), digits, strict=True):
        write_csv(folder / "data" / f"{name}.csv", np.asarray(rows.features), np.asarray(rows.labels))
    for name, row in (("digit.png", 0), ("one.png", 1), ("two.jpg", 2)):
        Image.fromarray(np.asarray(digits[1].features[row]).reshape(28, 28)).save(folder / name)
    (folder / "rows.json").write_text(json.dumps({"rows": np.asarray(digits[1].features[:2]).tolist()}))
    (folder / "my_training.py").write_text("import sys\nprint(sys.argv[1:])\n")
    assert train(None, "--epochs", "1", "--out", "run", cwd=folder).status == 0
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(CHECKOUT)))
def test_a_page_runs(page: Path, files: Path, tmp_path: Path) -> None:
    for file in files.iterdir():
        (tmp_path / file.name).symlink_to(file)
    for run in ("runs/digits", "runs/a", "runs/b"):
        if not any(f"--out {run}" in command for _, _, text in blocks(page) for command in commands(text)):
            shutil.copytree(files / "run", tmp_path / run)
    scripts: list[str] = []
    with servers(tmp_path) as serve:
        for language, line, text in blocks(page):
            if language == "python":
                scripts.append(text)  # a script may use what those before it on the page made
                job = run_job(None, "-c", "\n".join(scripts), cwd=tmp_path, timeout=SECONDS)
                assert job.status == 0, f"{page.name}, line {line}: {job.err}"
                continue
            for command in commands(text):
                if SERVER.search(command):
                    serve(command)
                    continue
                job = shell("-ec", command, cwd=tmp_path, timeout=SECONDS)
                assert job.status == 0, f"{page.name}, line {line}: {command}\n{job.out}\n{job.err}"


def commands(text: str) -> Iterator[str]:
    """The commands that are run here, each a script: lines that belong together, or a server alone."""
    script: list[str] = []
    for line in lines(text):
        if any(re.search(pattern, line) for pattern in ELSEWHERE):
            continue
        if not SERVER.search(line):
            script.append(line)
            continue
        if script:
            yield "\n".join(script)
            script = []
        yield line
    if script:
        yield "\n".join(script)


@contextmanager
def servers(folder: Path) -> Iterator[Callable[[str], None]]:
    """A function that starts a server, once the one before has ended. The last one ends with the block."""
    running: list[subprocess.Popen[bytes]] = []

    def end() -> None:
        for server in running:
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 0, (folder / "server.log").read_text()
        running.clear()

    def start(command: str) -> None:
        end()
        log, environment = folder / "server.log", {**os.environ, **activated()}
        with log.open("wb") as out:
            script = ["sh", "-c", f"exec {command}"]
            server = subprocess.Popen(script, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT)
        running.append(server)
        deadline = time.monotonic() + SECONDS
        while b"http://" not in log.read_bytes():
            assert server.poll() is None, f"{command}\n{log.read_text()}"
            assert time.monotonic() < deadline, command
            time.sleep(0.1)

    try:
        yield start
        end()
    finally:
        for server in running:
            server.kill()


def test_commands_are_taken_from_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\nexport A=1\necho $A \\\n  b\nmake test\npython -m ddp_numpy.serve\ncurl x\n```\n"
        "```text\nno\n```\n```console\n$ one \\\n  two\nout\n$ three\n```\n"
    )
    found = [list(commands(text)) for _, _, text in blocks(page)]
    assert found == [["export A=1\necho $A \\\n  b", "python -m ddp_numpy.serve", "curl x"], ["one \\\n  two\nthree"]]


def test_the_readmes_links_lead_somewhere() -> None:
    """Those of the other pages are checked when they are built."""
    links = re.findall(r"""(?:\]\(|src(?:set)?=")(?!https?:)([^)#"]+)""", (CHECKOUT / "README.md").read_text())
    assert len(links) > 10
    assert [link for link in links if not (CHECKOUT / link).exists()] == []


@pytest.mark.slow
def test_a_page_whose_command_fails_is_found(files: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```sh\ntrue\n```\n\n```sh\nfalse\ntrue\n```\n")
    (tmp_path / "run").mkdir()
    with pytest.raises(AssertionError, match=r"page\.md, line 5"):
        test_a_page_runs(page, files, tmp_path / "run")
