"""What tests of exchanges share: jobs that train with all of them on all ranks, and how their weights are compared."""

import functools
import tempfile
from pathlib import Path

import numpy as np
from jobs import run_job

SCRIPT = Path(__file__).parent / "mpi" / "exchanges.py"
NETWORKS = Path(__file__).parent / "mpi" / "networks.py"

Weights = dict[str, np.ndarray]
"""By exchange, batch and kind of network."""


def weights(
    folder: Path, *launch: str, script: Path = SCRIPT, comm: str = "auto", python: Path | None = None
) -> Weights:
    """What a script's networks end with. launch: options of the launcher, as -n 3; none: one process without it."""
    out, env = folder / "weights.npz", {"PYTHONPATH": str(script.parents[1])}
    command = ("-m", "launch", "run", *launch, script) if launch else (script,)
    more = {} if python is None else {"python": python}
    job = run_job(None, *command, out, comm, cwd=folder, env=env, timeout=180, **more)
    assert job.status == 0, job.err
    with np.load(out) as file:
        return dict(file)


@functools.cache
def weights_alone(script: Path = SCRIPT) -> Weights:
    """What they end with in one process. It trains them once for all tests."""
    with tempfile.TemporaryDirectory() as folder:
        return weights(Path(folder), script=script)


def assert_same(found: Weights, alone: Weights) -> None:
    """Of reproducible exchanges all bits; of the others up to rounding."""
    assert found.keys() == alone.keys()
    for name, expected in alone.items():
        if "reproducible" in name:
            np.testing.assert_array_equal(found[name], expected, err_msg=name)
        elif "whole" not in name:  # that optimizer divides by small numbers: what differs by rounding, differs soon
            np.testing.assert_allclose(found[name], expected, rtol=0, atol=1e-11, err_msg=name)
