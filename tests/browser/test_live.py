"""The live page of runs in a real browser."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from servers import serving
from windows import opened, until

RUN = {"format": "ddp_numpy run 1", "id": "0" * 16}


def run_of(folder: Path, epochs: int, rate: float, **options: Any) -> Path:
    """The folder of a run on four ranks of two hosts, one of which was slow, and which was started twice."""
    folder.mkdir()
    starts = [{"epoch": 0, "step": 0, "ranks": 4, "hosts": ["n1", "n2"], "rank_hosts": [0, 0, 1, 1]},
              {"epoch": 3, "step": 40, "ranks": 4, "hosts": ["n1", "n2"], "rank_hosts": [0, 0, 1, 1]}]  # fmt: skip
    (folder / "run.json").write_text(json.dumps({**RUN, "starts": starts}))
    chosen = {"epochs": 12, "lr": rate, "batch-size": 64, "model": "mlp", **options}
    (folder / "config.toml").write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in chosen.items()))
    (folder / "checkpoints").mkdir()
    for epoch in range(1, epochs + 1):
        add(folder, epoch, rate)
        (folder / "checkpoints" / f"step-{epoch * 94:010d}.npz").touch()
    return folder


def add(folder: Path, epoch: int, rate: float) -> None:
    loss = 1.6 / (1 + 60 * rate * epoch)
    line = {"epoch": epoch, "train_loss": 0.9 * loss, "train_accuracy": 1 - 0.27 * loss, "valid_loss": loss,
            "valid_accuracy": 1 - 0.3 * loss, "lr": rate, "images_per_second": 95_000.0, "seconds": 0.6,
            "waiting": [0.21, 0.2, 0.0, 0.19]}  # fmt: skip
    with open(folder / "metrics.jsonl", "a") as file:
        file.write(json.dumps(line) + "\n")


def progress(folder: Path, epoch: int) -> None:
    found = {"epoch": epoch, "epochs": 12, "step": 50, "steps": 94, "train_loss": 0.4, "lr": 0.01,
             "images_per_second": 96_000}  # fmt: skip
    (folder / "progress.json").write_text(json.dumps(found))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("phone", (360, 740)), ("desktop", (1200, 1100))])
def test_runs_are_followed_and_compared(
    name: str, size: tuple[int, int], scheme: str, chromium: Any, tmp_path: Path
) -> None:
    """With DDP_NUMPY_SCREENSHOTS=FOLDER, the pictures go there: those under docs/ are made so."""
    runs = tmp_path / "runs"
    runs.mkdir()
    run_of(runs / "slow <b>rate", 12, 0.003, seed=2)
    (runs / "slow <b>rate" / "model.npz").touch()
    going = run_of(runs / "a", 5, 0.01)
    progress(going, 6)
    window = {"width": size[0], "height": size[1]}
    with (
        serving(runs, command="dashboard") as server,
        opened(chromium, server.address, viewport=window, color_scheme=scheme) as page,
    ):
        cards = page.locator(".run").all_inner_texts()
        assert "running" in cards[0]
        assert "6 of 12, step 50 of 94" in cards[0]
        assert "after epoch 3, step 40" in cards[0]
        assert "rank 2 on n2 waits" in cards[0]
        assert "finished" in cards[1]
        assert page.locator(".chart h2").all_inner_texts() == ["Loss", "Accuracy", "Rows a second", "Learning rate"]
        assert page.locator(".chart canvas").count() == 4
        inside = "[...document.querySelectorAll('.chart')].every((box) => box.scrollWidth <= box.clientWidth)"
        assert page.evaluate(inside)
        assert page.locator("#comparison tbody th").all_inner_texts() == ["a", "slow <b>rate"]
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        page.screenshot(path=Path(os.environ.get("DDP_NUMPY_SCREENSHOTS", tmp_path)) / f"live-{name}-{scheme}.png")
        if (name, scheme) != ("desktop", "light"):
            return
        add(going, 6, 0.01)
        progress(going, 7)
        until(page, "document.querySelector('.run dd').textContent.startsWith('7 of 12')")
        until(page, "document.querySelector('#comparison tbody td').textContent === '6'")
        page.locator(".run input").nth(1).uncheck()
        assert page.locator("#comparison tbody th").all_inner_texts() == ["a"]
        page.select_option("#over", "seconds")
        assert page.locator(".chart canvas").count() == 4
        run_of(runs / "b", 2, 0.03)
        until(page, "document.querySelectorAll('.run').length === 3")


def test_the_page_finds_its_server_again(chromium: Any, tmp_path: Path) -> None:
    run_of(tmp_path / "a", 2, 0.01)
    with serving(tmp_path, command="dashboard") as server:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(server.address)
        page.wait_for_selector("html[data-ready]")
        port = server.port
    until(page, "document.getElementById('link').textContent.includes('does not answer')")
    add(tmp_path / "a", 3, 0.01)
    with serving(tmp_path, "--port", str(port), command="dashboard"):
        until(page, "document.getElementById('link').textContent === 'Live'")
        until(page, "document.querySelector('#comparison tbody td').textContent === '3'")
    context.close()
