"""What a run prints for people. Only rank 0 prints."""

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ddp_numpy.base.messages import one_line, tell
from ddp_numpy.training.metrics import Epoch

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = {  # those that begin with train_ or valid_ only if the epoch has them
    "number": ("epoch", "{:>5}"),
    "train_loss": ("train loss", "{:>10.4f}"),
    "train_accuracy": ("accuracy", "{:>8.2%}"),
    "train_rmse": ("RMSE", "{:>10.5g}"),
    "valid_loss": ("valid loss", "{:>10.4f}"),
    "valid_accuracy": ("accuracy", "{:>8.2%}"),
    "valid_rmse": ("RMSE", "{:>10.5g}"),
    "valid_r2": ("R²", "{:>8.4f}"),
    "images_per_second": ("images/s", "{:>8,.0f}"),
    "seconds": ("seconds", "{:>7.2f}"),
}


class Report:
    """Prints the progress of a run: a header, a line for each epoch, and on a terminal a progress bar."""

    def __init__(self, visible: bool, launched: bool) -> None:
        """visible: True on rank 0, unless it is to be quiet; launched: whether an mpirun passes the output on.

        Some mpiruns give their ranks a terminal even if mpirun's own output goes to a file, so a rank can't find out
        whether a terminal shows its output in the end. FORCE_COLOR tells it: the launcher sets it, or the user.
        """
        self.visible = visible
        if visible:
            from rich.console import Console

            hidden = launched and "FORCE_COLOR" not in os.environ
            self._console = Console(highlight=False, soft_wrap=True, force_terminal=False if hidden else None)

    def line(self, text: str = "", style: str | None = None) -> None:
        """Print one line of plain text."""
        if self.visible:
            self._console.print(text, style=style, markup=False)

    @staticmethod
    def warning(text: str) -> None:
        """Print a line to stderr, even if the report is to be quiet."""
        tell(f"warning: {text}")

    def doubts(self, lines: Sequence[str]) -> None:
        """Print warnings, unless the report is to be quiet: all may be well."""
        for line in lines if self.visible else ():
            self.warning(line)

    def fields(self, title: str, fields: dict[str, str]) -> None:
        """Print facts about a run: a title, and one line per field."""
        self.line(title, style="bold")
        for name, value in fields.items():
            self.line(one_line(f"  {name:<9} {value}"))

    def table_header(self, predicts_numbers: bool) -> None:
        """Print the names of the columns that `epoch` fills. predicts_numbers: rather than classes."""
        missing = "accuracy" if predicts_numbers else ("rmse", "r2")
        self._columns = {name: column for name, column in _COLUMNS.items() if not name.endswith(missing)}
        names = (name.rjust(len(cell.format(0))) for name, cell in self._columns.values())
        self.line()
        self.line("  ".join(names), style="bold")

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of one epoch."""
        self.line("  ".join(cell.format(getattr(epoch, name)) for name, (_, cell) in self._columns.items()))

    def progress(self, epochs: int, rows: int) -> AbstractContextManager[Callable[[int], None]]:
        """A progress bar, if the output is a terminal. Returns a function: call it with the number of rows just done.

        epochs: of the whole run; rows: in each epoch.
        """
        return progress("training", epochs * rows, self._console if self.visible else None)


@contextlib.contextmanager
def progress(what: str, total: int, console: "Console | None") -> Iterator[Callable[[int], None]]:
    """A progress bar, if the console is a terminal. Yields a function: call it with how much was just done."""
    if console is None or not console.is_terminal:
        yield lambda done: None
        return
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.advance(task, done)
