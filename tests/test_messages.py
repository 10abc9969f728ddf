import os
import subprocess
import sys
from pathlib import Path

import pytest

from ddp_numpy.base.messages import one_line, tell


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, and ü…", "plain, and ü…"),
        ("a\x1b[31mred", "a\\x1b[31mred"),
        ("gone\nerror: forged", "gone\\nerror: forged"),
        ("a\rb\x9bc", "a\\rb\\x9bc"),
        ("\udcff.csv", "\\udcff.csv"),
    ],
)
def test_a_name_in_a_message_can_do_nothing_to_a_terminal(text: str, shown: str) -> None:
    assert one_line(text) == shown


def test_long_words_and_lines_are_cut_in_the_middle() -> None:
    assert one_line(f"--data {'x' * 300}.csv: gone") == f"--data {'x' * 106}…{'x' * 48}.csv: gone"
    shown = one_line("many words " * 1000)
    assert len(shown) < 1300
    assert (shown[:10], shown[-6:]) == ("many words", "words ")


def test_telling_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    tell("nobody listens")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stderr", full)
        tell("nothing is left")
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())


def run_in_bash(script: str, *arguments: str, cwd: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a script in which $0 is this Python, $1 … are the arguments, and a failure in a pipe counts."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail\n{script}", sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "2>&-", "2>/dev/full", ">&- 2>&-", "| head -c 1"])
def test_a_command_survives_the_loss_of_its_output(redirection: str) -> None:
    code = (
        "import sys; from ddp_numpy.base.messages import tolerate_lost_output as tolerate; tolerate(); "
        "[print('ä' * 1000, file=stream, flush=True) for stream in (sys.stdout, sys.stderr) for _ in range(200)]"
    )
    done = run_in_bash(f'"$0" -c "$1" {redirection}', code)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("redirection", [">&- 2>&-", ">/dev/full 2>/dev/full", "| head -c 1"])
def test_commands_do_their_work_for_nobody(redirection: str, tmp_path: Path) -> None:
    commands = (
        "train --epochs 2 --out run",
        "train --epochs 3 --out run --resume auto",  # warns that the newest checkpoint is damaged
        "train --help",
        "train --epochs 1 --out run --resume auto --hidden 9; [ $? = 2 ]",  # an error that nobody hears
        "reference",
        "probe",
    )
    lines = [f"{{ $0 -m ddp_numpy.{command}; }} {redirection} || exit 9" for command in commands]
    lines.insert(1, "> run/checkpoints/step-0000000188.npz")
    done = run_in_bash("\n".join(lines), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3
