"""What a person sees of a run: rank 0 prints, and nobody else."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from ddp_numpy.training.metrics import Epoch

_COLUMNS = (
    ("epoch", "{0.number:>5}"),
    ("train loss", "{0.train_loss:>10.4f}"),
    ("accuracy", "{0.train_accuracy:>8.2%}"),
    ("valid loss", "{0.valid_loss:>10.4f}"),
    ("accuracy", "{0.valid_accuracy:>8.2%}"),
    ("images/s", "{0.images_per_second:>8,.0f}"),
    ("seconds", "{0.seconds:>7.2f}"),
)
_WIDTHS = [len(cell.format(Epoch(0, *[0.0] * 6))) for _, cell in _COLUMNS]


class Report:
    """Prints a run as it goes: a header, a line an epoch, and on a terminal a progress bar."""

    def __init__(self, visible: bool, launched: bool) -> None:
        """visible: true on rank 0, unless it is to be quiet; launched: whether an mpirun passes the output on.

        Some mpiruns give their ranks a terminal of their own, also where their own output goes to a file: only
        whoever sets FORCE_COLOR knows that there is one at the end.
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
        """Print a line to stderr, also where all else is to be quiet."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def fields(self, title: str, fields: dict[str, str]) -> None:
        """Print what a run is made of: a title and a line a field."""
        self.line(title, style="bold")
        for name, value in fields.items():
            self.line(f"  {name:<9} {value}")

    def table_header(self) -> None:
        """Print the names of the columns that `epoch` fills."""
        self.line()
        self.line(
            "  ".join(name.rjust(width) for (name, _), width in zip(_COLUMNS, _WIDTHS, strict=True)), style="bold"
        )

    def epoch(self, epoch: Epoch) -> None:
        """Print the line of one epoch."""
        self.line("  ".join(cell.format(epoch) for _, cell in _COLUMNS))

    @contextlib.contextmanager
    def progress(self, epochs: int, rows: int) -> Iterator[Callable[[int], None]]:
        """A bar over all epochs of so many rows each, on a terminal; yields what to call with rows done."""
        if not (self.visible and self._console.is_terminal):
            yield lambda done: None
            return
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        columns = (TextColumn("training"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=epochs * rows)
            yield lambda done: bar.advance(task, done)
