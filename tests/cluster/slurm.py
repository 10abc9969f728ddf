"""A Slurm of two nodes with four processors each, as it is told, all on this machine."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from jobs import kill

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
_START_SECONDS = 60
_END_SECONDS = 20

_CONFIGURATION = """\
ClusterName=ddptest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
AuthType=auth/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
SlurmdParameters=config_overrides
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=27001 CPUs=4
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=27002 CPUs=4
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
"""


@contextmanager
def running(folder: Path) -> Iterator[dict[str, str]]:
    """Slurm while the block lasts, with all it writes in a folder; gives the environment its commands need."""
    (folder / "state").mkdir()
    configuration = folder / "slurm.conf"
    configuration.write_text(_CONFIGURATION.format(host=socket.gethostname().split(".")[0], folder=folder))
    env = {**os.environ, "SLURM_CONF": str(configuration)}
    pid_files = [folder / "slurmctld.pid", folder / "slurmd-n1.pid", folder / "slurmd-n2.pid"]
    try:
        if not any(process.info["name"] == "munged" for process in psutil.process_iter(["name"])):
            subprocess.run(["install", "-d", "-o", "munge", "-g", "munge", "/run/munge"], check=True)
            subprocess.run(["su", "-s", "/bin/sh", "munge", "-c", "munged"], check=True)
            pid_files.append(Path("/run/munge/munged.pid"))
        for command in (["slurmctld"], ["slurmd", "-N", "n1"], ["slurmd", "-N", "n2"]):
            subprocess.run([*command, "-f", str(configuration)], check=True, timeout=_START_SECONDS)
        _wait_for_nodes(env)
        yield env
    finally:
        _end([int(pid_file.read_text()) for pid_file in pid_files if pid_file.exists()])


def _end(pids: list[int]) -> None:
    """Returns when they are gone, and with them their ports: who comes next must not take one for one that stays."""
    processes = [psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(processes, _END_SECONDS)
    kill(alive)
    psutil.wait_procs(alive, _END_SECONDS)


def _wait_for_nodes(env: dict[str, str]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        found = subprocess.run(
            ["sinfo", "-h", "-t", "idle", "-o", "%D"], env=env, capture_output=True, text=True, check=False
        )
        if found.stdout.strip() == "2":
            return
        time.sleep(0.2)
    raise TimeoutError("Slurm's nodes did not come up")
