"""Kills ranks of real jobs, over and over, and checks that each job ends where an undisturbed one does.

python tests/faults/soak.py --kills 200 --seed 1
"""

import argparse
import contextlib
import functools
import hashlib
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from jobs import JOB_SECONDS, MARK, kill, left_of, rank_of

from ddp_numpy import load_model

_OPTIONS = ("--epochs", "20", "--checkpoint-every", "5", "steps", "--quiet")
_SHARED_MEMORY = Path("/dev/shm")


class Job:
    """A launched job of some ranks, restarted once if it dies.

    The MPI libraries make files in shared memory. Neither the name of such a file nor a file that was left behind tells
    which job made it. So the job gets a folder of its own, which lies over the host's shared memory: whatever is left
    in the folder is the job's.
    """

    def __init__(self, ranks: int, folder: Path) -> None:
        self.folder, self.mark, self.start = folder, uuid.uuid4().hex, time.monotonic()
        self.shared_memory = _folder_in_shared_memory() if memory_of_its_own() else None
        where = [] if self.shared_memory is None else _with_shared_memory(self.shared_memory)
        command = [*where, sys.executable, "-m", "launch", "run", "-n", str(ranks), "--max-restarts", "1"]
        self.process = subprocess.Popen(
            [*command, "--out", folder, *_OPTIONS],
            env={**os.environ, MARK: self.mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def kill_rank(self, rank: int) -> bool:
        """Kill -9 a rank, whatever it is doing. Returns False if the rank has not started yet, or has ended."""
        process = rank_of(self.mark, rank)
        with contextlib.suppress(psutil.NoSuchProcess):
            return process is not None and _kill_surely(process)
        return False

    def end(self) -> tuple[str | None, str]:
        """Wait for the end: what is wrong with it, if anything is, and what the job said."""
        try:
            said, _ = self.process.communicate(timeout=JOB_SECONDS)
            problem = self._problem()
        except subprocess.TimeoutExpired:
            problem = f"no end in {JOB_SECONDS} s"
            kill(left_of(self.mark))
            said, _ = self.process.communicate()
        finally:
            if self.shared_memory is not None:
                shutil.rmtree(self.shared_memory)
        return problem, said

    def _problem(self) -> str | None:
        """What is wrong with a job that has come to its end."""
        if self.process.returncode:
            return f"status {self.process.returncode}"
        if left := left_of(self.mark):
            kill(left)
            return f"processes left: {left}"
        if hidden := list(self.folder.rglob(".*")):
            return f"files left: {hidden}"
        if self.shared_memory is not None and (names := sorted(os.listdir(self.shared_memory))):
            return f"left in shared memory: {', '.join(names)}"
        return None

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
        done, from_start = 0, 0
        while done < kills:
            job = Job(ranks, Path(parent, str(draw.getrandbits(64))))
            rank, moment = draw.randrange(ranks), draw.uniform(0.1, 1.0) * whole_seconds
            time.sleep(moment)
            killed = job.kill_rank(rank)
            killed_at = time.monotonic()
            problem, said = job.end()
            if not killed and problem is None:  # it was not there: this one is not counted
                whole_seconds = time.monotonic() - job.start  # the machine may be busier or quieter than before
                continue
            done += 1
            seconds.append(time.monotonic() - killed_at)
            from_start += "from the start" in said
            if problem is None and "restart 1 of 1" not in said:
                problem = "was not restarted"
            if problem is None and job.weights() != expected:
                problem = "other weights"
            if problem is not None:
                wrong.append(f"kill {done}, rank {rank} after {moment:.3f} s: {problem}\n{said}")
    unseen = "" if memory_of_its_own() else " that could be seen (what lies in shared memory could not)"
    print(
        f"{kills} kills, {ranks} ranks, seed {seed}: {kills - len(wrong)} of {kills} ended with the weights of an "
        f"undisturbed job, and left nothing{unseen}; {from_start} began anew, as they had no checkpoint yet; "
        f"from kill to end {statistics.median(seconds):.1f} s (median; {max(seconds):.1f} s at most), "
        f"{time.monotonic() - began:.0f} s in all"
    )
    return wrong


def _kill_surely(process: psutil.Process) -> bool:
    """Kill -9 a process. Returns False if the process ended by itself before.

    If a process is about to end, the signal has no effect, and the sender is not told. So the process is stopped first:
    a stopped process can't end by itself.
    """
    process.suspend()
    while (status := process.status()) != psutil.STATUS_STOPPED:
        if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return False
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    return True


@functools.cache
def memory_of_its_own() -> bool:
    """Whether a job can have its own shared memory here. This needs root, or a kernel with user namespaces."""
    if not _SHARED_MEMORY.exists() or not shutil.which("unshare"):
        return False
    folder = _folder_in_shared_memory()
    try:
        tried = subprocess.run([*_with_shared_memory(folder), "true"], check=False, capture_output=True, timeout=60)
    finally:
        folder.rmdir()
    return tried.returncode == 0


def _folder_in_shared_memory() -> Path:
    """Make a folder in the host's shared memory. The caller removes it."""
    return Path(tempfile.mkdtemp(prefix="ddp_numpy_soak_", dir=_SHARED_MEMORY))


def _with_shared_memory(folder: Path) -> list[str]:
    """The beginning of a command. Its process, and all that it starts, see the folder in place of shared memory."""
    as_root = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    mount = f'mount --bind "$0" {_SHARED_MEMORY} && exec "$@"'
    return ["unshare", "--mount", *as_root, "sh", "-c", mount, str(folder)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ranks", type=int, default=2)
    arguments = parser.parse_args()
    problems = soak(arguments.kills, arguments.seed, arguments.ranks)
    print("\n".join(problems))
    sys.exit(bool(problems))
