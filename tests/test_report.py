"""Reports of a made-up cluster: what stands in their files, and that these need nothing else."""

import base64
import csv
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from jobs import openmpi_python, run_job
from test_scaling_predicted import ASKED, SWEEP, basis, samples

from ddp_numpy import InputError
from ddp_numpy.pages.pictures import DARK, LIGHT, rendered
from ddp_numpy.scaling.folder import opened
from ddp_numpy.scaling.plan import Mode, Point, Sweep
from ddp_numpy.scaling.predictions import Outlook, keep
from ddp_numpy.scaling.report.figures import losses, pictures
from ddp_numpy.scaling.report.findings import Findings
from ddp_numpy.scaling.report.proposal import Proposal
from ddp_numpy.scaling.report.writing import write
from ddp_numpy.scaling.samples import Sample, Samples
from ddp_numpy.settings import Settings, Training

FACTS = {"cpu": "A <CPU>", "mpi": "MPI 4", "blas": "BLAS", "kernel": "6.1", "exchange": "sums", "command": "python"}
OF_RANKS = ("seconds", "computing", "update", "waiting", "moving")


def recorded(one: Sample) -> Sample:
    """With all that a launch writes down, of which the model needs only some."""
    ranks = one.point.ranks
    facts = one.facts | FACTS | {
        "time": "2026-01-02T03:04:05", "versions": {"numpy": "2"},
        "ranks_on": [{"host": f"node{rank // 2}", "cpus": [0, 1, 2, 5]} for rank in range(ranks)],
    }  # fmt: skip
    parts = one.parts
    if one.point.kind == "alone":
        parts = {name: [1e-5] for name in OF_RANKS}
        del facts["sum_seconds"]
        parts |= {"met": dict(parts), "slowest": 1e-5, "noise": [1.0], "by_rank": [[1e-5] * 5], "rows": [1]}
    elif one.point.ranks == 1:
        del facts["sum_seconds"]
    if one.point.kind == "ranks":
        assert parts is not None
        outside = parts["computing"][0] + parts["update"][0]
        calls = [parts["seconds"][0] - outside] * ranks
        more = {"waiting": [0.0] * ranks, "moving": calls, "by_rank": [[outside] * 5 for _ in range(ranks)]}
        parts = parts | more
        parts["met"] = {name: parts[name] for name in OF_RANKS}
    if parts is not None and one.point.kind != "beside":
        parts |= {"meeting": 1e-6, "steps": 5, "calls": 5, "impossible": 0, "price": [1.0], "clock_error": 0.0,
                  "clock_drift": 0.0}  # fmt: skip
    return one._replace(parts=parts, facts=facts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sweep of 1 to 8 ranks, two on a host, with a prediction of 16 that was measured later."""
    path = tmp_path / "sweep"
    training = Settings(training=Training(batch_size=1024)).recorded()
    plan = {"training": training, "launch": [], "seconds": 2.0, "target loss": None, "explain": True, "links": None}
    known = list(samples(SWEEP))
    with opened(path, plan) as (kept, _):
        for one in known:
            kept.add(recorded(one))
        keep(path, [Outlook(basis(known), ASKED).of(16)])
        later = Sweep((1, 16), ("strong",), 1024, 3, explain=True)
        for one in samples(later):
            if one.point == Point(16, 1024):
                kept.add(recorded(one))
    return path


class Page(HTMLParser):
    """The tables and the addresses of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.alts: list[str] = []
        self._in_cell = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.addresses += [value for name, value in attrs if name in ("src", "srcset", "href") and value]
        self.alts += [str(values["alt"])] if tag == "img" else []
        if tag == "tr":
            self.rows.append([])
        self._in_cell = tag in ("td", "th")
        if self._in_cell:
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self._in_cell:
            self.rows[-1][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._in_cell = False


def test_a_report_has_the_same_figures_in_all_its_files(folder: Path) -> None:
    out = write(Findings(folder), folder / "report", 0.75)
    values: dict[str, Any] = json.loads((out / "report.json").read_text())
    rows = values["modes"]["strong"]["rows"]
    assert [row["point"]["ranks"] for row in rows] == [1, 1, 2, 4, 8, 16]
    lines = list(csv.DictReader(io.StringIO((out / "report.csv").read_text())))
    assert [float(line["efficiency"]) for line in lines] == [row["efficiency"]["value"] for row in rows]
    page = Page((out / "report.html").read_text())
    shown = {row[0]: row for row in page.rows if len(row) > 8}
    for row in rows[1:]:
        assert f"{row['efficiency']['value']:.1%}" in shown[str(row["point"]["ranks"])]
    markdown = (out / "report.md").read_text()
    for cells in page.rows:
        assert " | ".join(cells) in markdown
    assert values["modes"]["strong"]["advice"]["8"][0]["change"] == "with --batch-size 4096"
    (one,) = values["predictions"]
    assert (one["prediction"]["ranks"], abs(one["error"]) < 0.1) == (16, True)
    assert {(own["ranks"], own["hosts"]) for own in values["sums"]} == {(2, 1), (4, 2), (8, 4), (16, 8)}
    assert len(values["ranks"]) == 16


def test_a_page_needs_no_other_file_and_markdown_has_all_its_pictures(folder: Path) -> None:
    out = write(Findings(folder), folder / "report", 0.75)
    page = Page((out / "report.html").read_text())
    assert len(page.addresses) == 10
    for address in page.addresses:
        head, data = address.split(",")
        assert head == "data:image/svg+xml;base64"
        ElementTree.fromstring(base64.b64decode(data))
    assert all(page.alts), "those who don't see a picture are told what it shows"
    assert "A &lt;CPU&gt;" in (out / "report.html").read_text()
    named = re.findall(r'src(?:set)?="([^"]+)"', (out / "report.md").read_text())
    assert len(named) == 10
    for name in named:
        ElementTree.parse(out / name)
        assert (out / name.replace("-dark", "").replace(".svg", ".png")).read_bytes().startswith(b"\x89PNG")


def test_pictures_are_the_same_each_time_and_for_light_and_dark_pages_others(folder: Path) -> None:
    for picture, again in zip(pictures(Findings(folder)), pictures(Findings(folder)), strict=True):
        light, dark = rendered(picture, LIGHT, "svg"), rendered(picture, DARK, "svg")
        assert rendered(again, LIGHT, "svg") == light != dark
        assert LIGHT.paper.encode() in light
        assert DARK.paper.encode() in dark


def test_losses_add_up_to_what_is_missing() -> None:
    found = losses({"a": 0.5, "b": 0.8, "c": 1.25})
    assert found == pytest.approx({"a": 0.5, "b": 0.1, "c": -0.1})
    assert sum(found.values()) == pytest.approx(1 - 0.5 * 0.8 * 1.25)


def test_a_proposal_passes_or_fails_by_the_efficiency_that_is_required(folder: Path) -> None:
    found = Findings(folder)
    rows = {row.point.ranks: row for row in found.of_modes[0].rows if row.point.kind == "ranks"}
    at_half = Proposal(found, 0.5)
    assert [(one.nodes, one.ranks) for one in at_half.judged] == [(1, 2), (2, 4), (4, 8), (8, 16)]
    assert at_half.counts == 4
    base, last = rows[2], rows[16]
    for one, row in zip(at_half.judged, (rows[2], rows[4], rows[8], rows[16]), strict=True):
        assert one.efficiency == pytest.approx(2 * base.seconds.value / (row.point.ranks * row.seconds.value))
        assert one.passes == (one.efficiency >= 0.5)
        assert one.wall_seconds == pytest.approx(20 * 10 * row.seconds.value)  # 20 epochs of 10,240 rows
    assert at_half.judged[-1].speedup == pytest.approx(base.seconds.value / last.seconds.value)
    all_pass = "".join(map(str, Proposal(found, 0.01).blocks()))
    assert "All in all: pass. The largest job with the efficiency that is required has 16 ranks on 8 nodes." in all_pass
    assert "#SBATCH --nodes=8\n#SBATCH --ntasks-per-node=2\n" in all_pass.replace("\\n", "\n")
    assert "--batch-size=1024" in all_pass
    assert "All in all: fail. The largest job with the efficiency that is required has 2 ranks on 1 node." in "".join(
        map(str, Proposal(found, 0.999).blocks())
    )


@pytest.mark.parametrize("mode", ["strong", "weak"])
def test_the_way_of_scaling_is_seen_from_the_samples(mode: Mode, folder: Path) -> None:
    path = folder.parent / "another"
    training = Settings(training=Training(batch_size=1024)).recorded()
    plan = {"training": training, "launch": [], "seconds": 2.0, "target loss": None, "explain": True, "links": None}
    with opened(path, plan) as (kept, _):
        for one in samples(Sweep((1, 2), (mode,), 1024, 3, explain=True)):
            kept.add(recorded(one))
    found = Findings(path)
    assert found.sweep.modes == (mode,)
    assert Proposal(found, 0.75).counts == 1


def test_what_gives_no_report(folder: Path) -> None:
    job = run_job(None, "-m", "ddp_numpy.scaling.report", folder.parent, cwd=folder)
    assert (job.status, job.error_lines) == (2, [f"error: {folder.parent}: is no folder of a sweep"])
    job = run_job(None, "-m", "ddp_numpy.scaling.report", folder, cwd=folder, python=openmpi_python())
    assert (job.status, job.error_lines) == (
        2, ["error: a report needs matplotlib; install it with: pip install matplotlib"],
    )  # fmt: skip
    lines = (folder / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (folder / "samples.jsonl").write_bytes(b"")
    with pytest.raises(InputError, match=r"samples.jsonl: has no samples yet; let the sweep go on"):
        Findings(folder)
    (folder / "samples.jsonl").write_bytes(lines[-1])
    with pytest.raises(InputError, match="has no round with one process and one rank yet"):
        Findings(folder)
    assert len(Samples(folder).all) == 1


def test_the_command_says_where_the_report_is(folder: Path) -> None:
    job = run_job(None, "-m", "ddp_numpy.scaling.report", folder, "--out", "there", cwd=folder)
    assert job.status == 0, job.err
    assert job.out == "report: there/report.html; on one page, for computing time: there/proposal.html\n"
    assert (folder / "there" / "proposal.html").exists()
