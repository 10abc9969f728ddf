"""What goes along with a run beside its folder: a page that shows it, and services that keep figures of many runs.

None of them can end training, or hold it up: the page is a process, and each service has a thread of its own.
"""

import contextlib
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ddp_numpy.base.messages import one_line
from ddp_numpy.base.packages import need
from ddp_numpy.settings import Settings

Log = Callable[[int, dict[str, float]], None]
Start = Callable[[], tuple[Log, Callable[[], None]]]
"""Connects to a service; returns how to log an epoch's figures, and how to end."""
_END_SECONDS = 10.0  # that a service gets for what is left, when training ends
_PROJECT = "ddp_numpy"


def need_packages(settings: Settings) -> None:
    """Raise InputError if a package is missing that the settings ask for."""
    output = settings.output
    if output.dashboard is not None:
        need("--dashboard", "fastapi", "uvicorn")
    for asked, option, package in (
        (output.tensorboard, "--tensorboard", "tensorboardX"),
        (output.mlflow, "--mlflow", "mlflow"),
        (output.wandb, "--wandb", "wandb"),
    ):
        if asked:
            need(option, package)


@contextlib.contextmanager
def shown(folder: Path, port: int | None) -> Iterator[None]:
    """A block beside which a page shows this run, if there is a port. The page ends with the block, or this process."""
    if port is None:
        yield
        return
    command = [sys.executable, "-m", "ddp_numpy.dashboard", "--until-input-ends", "--port", str(port), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        try:
            yield
        finally:
            process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()


class Tracker:
    """Tells a service of each epoch. If the service fails, there is a warning, and nothing more is sent to it."""

    def __init__(self, name: str, start: Start, complaint: Callable[[str], None]) -> None:
        """name: for people; complaint: called with a line of text, from any thread."""
        self._name, self._complaint = name, complaint
        self._queue: queue.SimpleQueue[tuple[int, dict[str, float]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(start,), name=name, daemon=True)
        self._thread.start()

    def epoch(self, figures: dict[str, Any]) -> None:
        """Send the figures of an epoch, soon."""
        numbers = {name: value for name, value in figures.items() if isinstance(value, float)}
        self._queue.put((figures["epoch"], numbers))

    def close(self) -> None:
        """Send what is left, and end."""
        self._queue.put(None)
        self._thread.join(_END_SECONDS)
        if self._thread.is_alive():
            self._complaint(f"{self._name}: does not answer; its last figures may be missing there")

    def _work(self, start: Start) -> None:
        try:
            log, end = start()
            while (told := self._queue.get()) is not None:
                log(*told)
            end()
        except BaseException as error:
            why = one_line(str(error) or type(error).__name__)
            self._complaint(f"{self._name}: {why}; it gets no more figures of this run")


def trackers(settings: Settings, folder: Path, run_id: str, complaint: Callable[[str], None]) -> list[Tracker]:
    """Those that the settings ask for. run_id: so that a resumed run goes on there, too."""
    output, options = settings.output, settings.recorded()
    starts: dict[str, Start] = {}
    if output.tensorboard:
        starts["TensorBoard"] = lambda: _tensorboard(folder)
    if output.mlflow is not None:
        starts["MLflow"] = lambda: _mlflow(str(output.mlflow), folder, run_id, options)
    if output.wandb:
        starts["Weights & Biases"] = lambda: _wandb(folder, run_id, options)
    return [Tracker(name, start, complaint) for name, start in starts.items()]


def _tensorboard(folder: Path) -> tuple[Log, Callable[[], None]]:
    from tensorboardX import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard"))

    def log(epoch: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, epoch)
        writer.flush()

    return log, writer.close


def _mlflow(uri: str, folder: Path, run_id: str, options: dict[str, Any]) -> tuple[Log, Callable[[], None]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(_PROJECT)
    place = experiment.experiment_id if experiment else client.create_experiment(_PROJECT)
    earlier = client.search_runs([place], f"tags.ddp_numpy_run = '{run_id}'", max_results=1)
    if earlier:
        known = earlier[0].info.run_id
        client.update_run(known, "RUNNING")
    else:
        known = client.create_run(place, run_name=folder.name, tags={"ddp_numpy_run": run_id}).info.run_id
        for name, value in options.items():
            client.log_param(known, name, value)

    def log(epoch: int, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            client.log_metric(known, name, value, step=epoch)

    return log, lambda: client.set_terminated(known)


def _wandb(folder: Path, run_id: str, options: dict[str, Any]) -> tuple[Log, Callable[[], None]]:
    import wandb

    run = wandb.init(
        project=_PROJECT, name=folder.name, id=run_id, resume="allow", config=options, dir=str(folder),
        settings=wandb.Settings(silent=True),
    )  # fmt: skip
    return lambda epoch, figures: run.log(figures, step=epoch), run.finish
