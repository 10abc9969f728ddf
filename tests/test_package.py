"""What is not in any one module: the wheel, and the script in the README."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jobs import run_job

from ddp_numpy import load_model

CHECKOUT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_trains_in_an_empty_environment(tmp_path: Path) -> None:
    def pip(python: str | Path, *arguments: str | Path) -> None:
        command = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
        subprocess.run(command, check=True, timeout=240, cwd=tmp_path)

    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", tmp_path, CHECKOUT)
    (wheel,) = tmp_path.glob("*.whl")
    assert "ddp_numpy/data/digits/README.md" in zipfile.ZipFile(wheel).namelist()  # the licence of the digits
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    python = tmp_path / "venv" / "bin" / "python"
    pip(python, "install", wheel)

    def train() -> None:
        job = run_job(None, "-m", "ddp_numpy.train", "--epochs", "1", cwd=tmp_path, python=python)
        assert job.status == 0, job.err
        assert "one process, no MPI" in job.out
        assert "6,000 rows to train" in job.out

    train()  # mpi4py is there, but no MPI library
    pip(python, "uninstall", "--yes", "mpi4py")
    train()


@pytest.mark.parametrize("ranks", [None, 3])
def test_the_readmes_script_runs_as_it_stands(ranks: int | None, tmp_path: Path) -> None:
    scripts = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    (script,) = (script for script in scripts if "trainer.fit" in script)
    (tmp_path / "script.py").write_text(script)
    job = run_job(ranks, "script.py", cwd=tmp_path)
    assert job.status == 0, job.err
    assert job.err == ""
    assert job.out.count("epoch 5: loss 0.6") == 1
    assert job.out.count("first digits: [") == 1
    assert load_model(tmp_path / "model.npz").params.size == 109_386
