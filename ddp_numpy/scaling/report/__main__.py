"""Writes the report of a sweep: python -m ddp_numpy.scaling.report FOLDER."""

from pathlib import Path

import click

from ddp_numpy.base.packages import need
from ddp_numpy.cli import run
from ddp_numpy.scaling.report.findings import Findings


@click.command("scaling.report", context_settings={"show_default": True, "max_content_width": 110})
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Default: report in the sweep's folder.")
@click.option("--required-efficiency", type=click.FloatRange(0, 1, min_open=True), default=0.75,
              help="Of a proposal for computing time.")  # fmt: skip
def main(folder: Path, out: Path | None, required_efficiency: float) -> None:
    """Write what a sweep's samples say as a page, with pictures and tables, and a proposal for computing time."""
    found = Findings(folder)
    need("a report", "matplotlib")
    from ddp_numpy.scaling.report.writing import write  # an extra, which the lab itself does without

    written = write(found, out or folder / "report", required_efficiency)
    click.echo(f"report: {written / 'report.html'}; on one page, for computing time: {written / 'proposal.html'}")


if __name__ == "__main__":
    run(main, alone=True)
