"""Kills ranks of real jobs, over and over, and checks that each job ends where an undisturbed one does.

python tests/faults/soak.py --kills 200 --seed 1
"""

import argparse
import hashlib
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from jobs import MARK, left_of

from ddp_numpy import load_model

_OPTIONS = ("--epochs", "20", "--checkpoint-every", "5", "steps", "--quiet")
_JOB_SECONDS = 120
_SHARED_MEMORY = Path("/dev/shm")


class Job:
    """A launched job of some ranks, restarted once if it dies."""

    def __init__(self, ranks: int, folder: Path) -> None:
        self.folder, self.mark, self.start = folder, uuid.uuid4().hex, time.monotonic()
        command = [sys.executable, "-m", "launch", "run", "-n", str(ranks), "--max-restarts", "1", "--out", folder]
        self.process = subprocess.Popen(
            [*command, *_OPTIONS],
            env={**os.environ, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill_rank(self, rank: int) -> bool:
        """Kill -9 a rank; False if it is not there (any more, or yet)."""
        for process in left_of(self.mark):
            environment = process.environ()
            if environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK")) == str(rank):
                process.send_signal(signal.SIGKILL)
                return True
        return False

    def end(self) -> tuple[str | None, str]:
        """Wait for the end: what is wrong with it, if anything is, and what the job said."""
        try:
            said, _ = self.process.communicate(timeout=_JOB_SECONDS)
        except subprocess.TimeoutExpired:
            for process in left_of(self.mark):
                process.kill()
            return f"no end in {_JOB_SECONDS} s", self.process.communicate()[0]
        if self.process.returncode:
            return f"status {self.process.returncode}", said
        if left := left_of(self.mark):
            for process in left:
                process.kill()
            return f"processes left: {left}", said
        if hidden := list(self.folder.rglob(".*")):
            return f"files left: {hidden}", said
        return None, said

    def weights(self) -> str:
        """SHA-256 of what it trained."""
        return hashlib.sha256(load_model(self.folder / "model.npz").params.tobytes()).hexdigest()


def soak(kills: int, seed: int, ranks: int) -> list[str]:
    """Kill so many jobs, each once; returns what went wrong, and prints how it went."""
    draw, wrong, seconds, began = random.Random(seed), [], [], time.monotonic()
    with tempfile.TemporaryDirectory() as parent:
        undisturbed = Job(ranks, Path(parent, "undisturbed"))
        problem, said = undisturbed.end()
        if problem is not None:
            return [f"undisturbed: {problem}\n{said}"]
        whole_seconds, expected = time.monotonic() - undisturbed.start, undisturbed.weights()
        known = _shared_memory()
        done, from_start = 0, 0
        while done < kills:
            job = Job(ranks, Path(parent, str(draw.getrandbits(64))))
            rank, moment = draw.randrange(ranks), draw.uniform(0.1, 1.0) * whole_seconds
            time.sleep(moment)
            killed = job.kill_rank(rank)
            killed_at = time.monotonic()
            problem, said = job.end()
            if not killed and problem is None:
                continue  # it was not there: this one is not counted
            done += 1
            seconds.append(time.monotonic() - killed_at)
            from_start += "from the start" in said
            if problem is None and "restart 1 of 1" not in said:
                problem = "was not restarted"
            if problem is None and job.weights() != expected:
                problem = "other weights"
            left = _shared_memory() - known
            known |= left  # so that each is counted once
            if problem is None and left:
                problem = f"left in shared memory: {sorted(map(str, left))}"
            if problem is not None:
                wrong.append(f"kill {done}, rank {rank} after {moment:.3f} s: {problem}\n{said}")
    print(
        f"{kills} kills, {ranks} ranks, seed {seed}: {kills - len(wrong)} of {kills} ended with the weights of an "
        f"undisturbed job, and left nothing; {from_start} began anew, as they had no checkpoint yet; "
        f"from kill to end {statistics.median(seconds):.1f} s (median; {max(seconds):.1f} s at most), "
        f"{time.monotonic() - began:.0f} s in all"
    )
    return wrong


def _shared_memory() -> set[Path]:
    """The files in the host's shared memory."""
    return set(_SHARED_MEMORY.iterdir()) if _SHARED_MEMORY.exists() else set()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    arguments = parser.parse_args()
    problems = soak(arguments.kills, arguments.seed, arguments.ranks)
    print("\n".join(problems))
    sys.exit(bool(problems))
