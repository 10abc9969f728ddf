"""What a run prints for people. Only rank 0 prints."""

import contextlib
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from ddp_numpy.base.messages import one_line, tell
from ddp_numpy.training.metrics import Epoch

if TYPE_CHECKING:
    from rich.console import Console

_COLUMNS = (
    ("epoch", "{0.number:>5}"),
    ("train loss", "{0.train_loss:>10.4f}"),
    ("accuracy", "{0.train_accuracy:>8.2%}"),
    ("valid loss", "{0.valid_loss:>10.4f}"),
    ("accuracy", "{0.valid_accuracy:>8.2%}"),
    ("images/s", "{0.images_per_second:>8,.0f}"),
    ("seconds", "{0.seconds:>7.2f}"),
)
_WIDTHS = [len(cell.format(Epoch(0, *[0.0] * 7))) for _, cell in _COLUMNS]


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

    def fields(self, title: str, fields: dict[str, str]) -> None:
        """Print facts about a run: a title, and one line per field."""
        self.line(title, style="bold")
        for name, value in fields.items():
            self.line(one_line(f"  {name:<9} {value}"))

    def table_header(self) -> None:
        """Print the names of the columns that `epoch` fills."""
        self.line()
        self.line(
            "  ".join(name.rjust(width) for (name, _), width in zip(_COLUMNS, _WIDTHS, strict=True)), style="bold"
        )

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of one epoch."""
        self.line("  ".join(cell.format(epoch) for _, cell in _COLUMNS))

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
