"""The drawing page in a real browser: digits are drawn stroke by stroke, and what the page says is read."""

import functools
import http.server
import io
import json
import os
import re
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from windows import digits, opened, until

from ddp_numpy import Dense, InputError, Sequential, load_model, save_model
from ddp_numpy.deploy.drawing_page import BUNDLED_RUN, page_files, read_steps, write_page
from ddp_numpy.deploy.handwriting import read_picture

WIDTH, HEIGHT = 560, 420  # of the sheet
CORNERS = [(10, 10), (310, 10), (10, 210), (310, 210)]


def at(page: Any, x: float, y: float) -> tuple[float, float]:
    """A point of the sheet, in the window."""
    box = page.locator("#sheet").bounding_box()
    return box["x"] + x * box["width"] / WIDTH, box["y"] + y * box["height"] / HEIGHT


def draw(page: Any, row: np.ndarray, left: float = 150, top: float = 80, scale: float = 9, pen: int = 24) -> None:
    """Draw a digit of MNIST by the mouse. left, top: of its 28 pixels, on the sheet; scale: of one."""
    strokes = pytest.importorskip("strokes", reason="no scikit-image: make test-browser installs it").strokes
    page.locator("#pen").fill(str(pen))
    page.locator("#sheet").scroll_into_view_if_needed()
    corner, opposite = at(page, left, top), at(page, left + 28 * scale, top + 28 * scale)
    for line in strokes(row):
        points = [[a + (b - a) * part / 28 for a, b, part in zip(corner, opposite, at, strict=True)] for at in line]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in [*points[1:-1:4], points[-1]]:
            page.mouse.move(*point)
        page.mouse.up()
    settled(page)


def settled(page: Any) -> None:
    """Wait until the page has read what was drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def said(page: Any, name: str, words: str) -> None:
    """Wait until the element of this id has these words in its text."""
    until(page, f"document.getElementById({name!r}).textContent.includes({json.dumps(words)})")


def bars(page: Any) -> list[float]:
    """The page's probabilities, in percent."""
    return [float(text.removesuffix(" %")) for text in page.locator("#bars td:last-child").all_inner_texts()]


PIXELS = """(canvas) => {
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return [...copy.getImageData(0, 0, canvas.width, canvas.height).data];
}"""


def seen(page: Any, number: int = 0) -> np.ndarray:
    """The pixels (784,) that the page shows as those that the network sees."""
    canvas = page.locator("#seen canvas").nth(number)
    return np.array(canvas.evaluate(PIXELS)[::4], np.uint8)


def test_digits_are_read_as_they_are_drawn(page: Any) -> None:
    X, y = digits(20)
    answers = []
    for at, row in enumerate(X):
        draw(page, row, pen=9 * (at % 4 + 1))  # 1 to 4 of MNIST's pixels
        answers.append(page.inner_text("#answer"))
        chances = bars(page)
        assert sum(chances) == pytest.approx(100, abs=0.5)
        assert str(np.argmax(chances)) == answers[-1]
        page.click("#clear")
    assert sum(answer == str(label) for answer, label in zip(answers, y, strict=True)) >= 19


@pytest.mark.parametrize("pixels", [1, 2, 3, 4])
def test_a_thin_pen_and_a_thick_one_are_read(pixels: int, page: Any) -> None:
    strokes = pytest.importorskip("strokes", reason="no scikit-image: make test-browser installs it").strokes
    X, y = digits(1000)
    drawn = [[[[150 + 9 * x, 80 + 9 * y] for x, y in line] for line in strokes(row)] for row in X]
    answers = page.evaluate(
        """async ([drawn, width]) => {
          const [{ Sheet }, { centred, digits }, { Network }] =
            await Promise.all(["sheet", "picture", "network"].map((name) => import(`./${name}.js`)));
          const about = await (await fetch("network.json")).json();
          const weights = await (await fetch(about.steps.at(-1).weights)).arrayBuffer();
          const network = new Network(about.model, new Float32Array(weights));
          const sheet = new Sheet(document.createElement("canvas"), () => width, () => {});
          return drawn.map((lines) => {
            sheet.draw(lines.map((points) => ({ width, points })));
            return digits(sheet.ink).map((picture) => {
              const logits = network.forward(centred(picture));
              return logits.indexOf(Math.max(...logits));
            }).join("");
          });
        }""",
        [drawn, 9 * pixels],
    )
    right = np.mean([answer == str(label) for answer, label in zip(answers, y, strict=True)])
    print(f"pen of {pixels}: {right:.1%}")
    assert right >= 0.95


def test_the_bars_move_while_one_draws(page: Any) -> None:
    assert page.inner_text("#answer") == "Nothing is drawn yet."
    assert set(page.locator("#bars td:last-child").all_inner_texts()) == {""}
    page.mouse.move(*at(page, 180, 60))
    page.mouse.down()
    found = []
    seven = [(240, 60), (300, 60), (360, 60), (340, 120), (320, 180), (300, 240), (280, 300), (260, 360)]
    for x, y in seven:
        page.mouse.move(*at(page, x, y))
        settled(page)
        found.append(bars(page))
    assert page.inner_text("#answer") == "7"
    assert len({tuple(each) for each in found}) > 3
    page.mouse.up()
    said(page, "said", "Read as 7")


def test_where_it_is_drawn_tells_nothing(page: Any) -> None:
    row = digits(10)[0][3]
    rows, answers = [], []
    for left, top in CORNERS:
        draw(page, row, left, top, 7)
        rows.append(seen(page))
        answers.append((page.inner_text("#answer"), bars(page)))
        page.click("#clear")
    # The edges of a stroke are smoothed by where they lie between two pixels of the screen.
    assert max(np.abs(each.astype(int) - rows[0]).max() for each in rows) <= 8
    assert len({answer for answer, _ in answers}) == 1


def test_digits_side_by_side_are_read_as_a_number(page: Any) -> None:
    X, y = digits(10)
    for number, row in enumerate(X[:3]):
        draw(page, row, 10 + 180 * number, 100, 6, 18)
    assert page.inner_text("#answer") == "".join(map(str, y[:3]))
    assert page.locator("#seen button").count() == 3
    page.locator("#seen button").first.click()
    assert int(np.argmax(bars(page))) == y[0]
    page.click("#clear")
    for (left, top), row in zip(CORNERS, X[3:7], strict=True):
        draw(page, row, left, top, 6, 18)
    assert page.inner_text("#answer") == "".join(map(str, y[3:7]))


def test_undo_takes_back_a_stroke_and_clear_all(page: Any) -> None:
    draw(page, digits(10)[0][1])
    before = seen(page)
    page.mouse.click(*at(page, 20, 20))
    settled(page)
    assert page.evaluate("document.getElementById('seen').children.length") >= 1
    page.click("#undo")
    settled(page)
    np.testing.assert_array_equal(seen(page), before)
    page.click("#clear")
    settled(page)
    assert page.locator("#seen button").count() == 0
    assert page.inner_text("#answer") == "Nothing is drawn yet."


def test_by_touch_on_a_phone_drawing_never_scrolls(chromium: Any, address: str) -> None:
    phone = {"viewport": {"width": 360, "height": 640}, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}
    with opened(chromium, address, **phone) as page:
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        touch = page.context.new_cdp_session(page)

        def send(kind: str, *points: tuple[float, float]) -> None:
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

        send("touchStart", at(page, 280, 60))
        for step in range(1, 12):
            send("touchMove", at(page, 280, 60 + 26 * step))
        send("touchEnd")
        settled(page)
        assert page.evaluate("scrollY") == 0
        assert page.inner_text("#answer") == "1"
        send("touchStart", at(page, 280, -30))  # above the sheet, the page scrolls
        for step in range(1, 12):
            send("touchMove", (at(page, 280, -30)[0], at(page, 280, -30)[1] - 20 * step))
        send("touchEnd")
        until(page, "scrollY > 0")


def test_a_pen_draws_as_a_mouse_does(page: Any) -> None:
    pen = page.context.new_cdp_session(page)
    moves = [("mouseMoved", 60 + 26 * step) for step in range(1, 12)]
    for kind, y in [("mousePressed", 60), *moves, ("mouseReleased", 346)]:
        left, top = at(page, 280, y)
        pen.send("Input.dispatchMouseEvent", {"type": kind, "x": left, "y": top, "button": "left", "buttons": 1,
                                              "clickCount": 1, "pointerType": "pen"})  # fmt: skip
    settled(page)
    assert page.inner_text("#answer") == "1"


def test_by_keyboard_and_for_a_screen_reader(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "sheet"
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    for _ in range(18):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    settled(page)
    assert page.inner_text("#answer") == "1"
    said(page, "said", "Read as 1")
    tree = page.locator("body").aria_snapshot()
    for words in ("Sheet to draw on", "Undo", "Clear", "Open a picture", "Width of the pen", "How sure the network is",
                  "Read as 1", "Why?", "What each layer makes of it"):  # fmt: skip
        assert words in tree
    page.keyboard.press("Backspace")
    settled(page)
    assert page.inner_text("#answer") == "Nothing is drawn yet."


def test_pictures_are_opened_and_read_as_the_command_reads_them(page: Any, tmp_path: Path) -> None:
    from PIL import Image

    row = digits(10)[0][5]
    large = 255 - np.asarray(Image.fromarray(row.reshape(28, 28)).resize((150, 150), Image.Resampling.BICUBIC))
    sheet = np.pad(large, ((20, 60), (90, 10)), constant_values=255)
    Image.fromarray(np.dstack([sheet, sheet, sheet * 0.8]).astype(np.uint8)).save(tmp_path / "a.png")
    page.set_input_files("#upload", tmp_path / "a.png")
    page.wait_for_selector("#seen canvas")
    settled(page)
    np.testing.assert_array_equal(seen(page), read_picture(tmp_path / "a.png"))
    assert page.inner_text("#answer") == str(digits(10)[1][5])
    for data, words in ((b"not a picture", "no picture that can be read"), (blank(), "nothing is drawn on it")):
        (tmp_path / "b.png").write_bytes(data)
        page.set_input_files("#upload", tmp_path / "b.png")
        said(page, "trouble", words)
    draw(page, digits(10)[0][1])  # takes the picture's place
    assert page.locator("#seen button").count() == 1


def blank() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(np.full((50, 50), 240, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_the_slider_goes_through_the_checkpoints_of_the_run(page: Any) -> None:
    about = json.loads(page_files_of_bundled()["network.json"])
    draw(page, digits(10)[0][4])
    found = []
    for step in range(len(about["steps"])):
        page.locator("#step").fill(str(step))
        said(page, "step-name", about["steps"][step]["name"])
        settled(page)
        found.append(bars(page))
    assert len(found) > 3
    assert max(found[0]) < max(found[-1])


def page_files_of_bundled() -> dict[str, bytes]:
    return page_files(read_steps(BUNDLED_RUN))


def test_the_layers_and_the_reasons_are_shown(page: Any) -> None:
    draw(page, digits(10)[0][4])
    shown = page.locator("#layers canvas")
    assert shown.count() > 5
    assert all(any(shown.nth(number).evaluate(PIXELS)) for number in range(shown.count()))
    before = seen(page)
    page.check("#why")
    settled(page)
    assert (seen(page) != before).any()
    assert page.is_visible("#why-hint")


def test_it_works_offline_after_one_visit(chromium: Any, serve: Any) -> None:
    server = serve()
    context = chromium.new_context()
    page = context.new_page()
    page.goto(server.address)
    page.evaluate("() => navigator.serviceWorker.ready.then(() => true)")
    until(page, "navigator.serviceWorker.controller !== null")
    server.end()
    page.reload()
    page.wait_for_selector("html[data-ready]")
    draw(page, digits(10)[0][7])
    assert page.inner_text("#answer") == str(digits(10)[1][7])
    page.locator("#step").fill("0")
    said(page, "step-name", "After ")
    assert page.evaluate("async () => (await fetch('manifest.webmanifest')).ok")
    context.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


def test_any_web_server_hands_it_out(chromium: Any, tmp_path: Path) -> None:
    write_page(page_files_of_bundled(), tmp_path / "somewhere" / "digits")
    handler = functools.partial(Quiet, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            address = f"http://127.0.0.1:{server.server_port}/somewhere/digits/"
            with opened(chromium, address) as page:
                draw(page, digits(10)[0][2])
                assert page.inner_text("#answer") == str(digits(10)[1][2])
        finally:
            server.shutdown()
            thread.join()


def test_onnxruntime_reads_the_same(chromium: Any, serve: Any) -> None:
    from ddp_numpy.deploy.onnxruntime_web import runtime_files

    try:
        runtime_files()
    except InputError as error:
        pytest.skip(str(error))
    with opened(chromium, serve("--onnxruntime").address) as page:
        for number, row in enumerate(digits(10)[0][:3]):
            draw(page, row, 10 + 180 * number, 100, 6, 18)
        page.check("#compare")
        said(page, "compared", "logits differ by")
        text = page.inner_text("#compared")
        assert text.startswith(f"onnxruntime reads {' '.join(page.inner_text('#answer'))} in ")
        assert float(re.search(r"by (\S+)", text)[1]) < 1e-4


def test_other_classes_have_their_names(chromium: Any, serve: Any, tmp_path: Path) -> None:
    model = Sequential(Dense(3))
    model.build((784,))
    model.initialize(np.random.default_rng(0))
    model.class_names = ("<b>circle</b>", "a square & more", "42")
    save_model(model, tmp_path / "m.npz")
    with opened(chromium, serve("--weights", tmp_path / "m.npz").address) as page:
        draw(page, digits(10)[0][2])
        assert page.inner_text("#answer") in model.class_names
        assert page.locator("#bars th").all_inner_texts() == list(model.class_names)
        assert page.is_hidden("#learning")


def test_the_bundled_network_is_as_good_as_it_says() -> None:
    model = load_model(BUNDLED_RUN)
    X, y = digits(1000)
    assert abs((model.predict(X) == y).mean() - model.trained["valid_accuracy"]) < 0.005


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("name", "size"), [("phone", (360, 740)), ("desktop", (1200, 860))])
def test_how_it_looks(
    name: str, size: tuple[int, int], scheme: str, chromium: Any, address: str, tmp_path: Path
) -> None:
    """With DDP_NUMPY_SCREENSHOTS=FOLDER, the pictures go there: those under docs/ are made so."""
    folder = Path(os.environ.get("DDP_NUMPY_SCREENSHOTS", tmp_path))
    window = {"width": size[0], "height": size[1]}
    with opened(chromium, address, viewport=window, color_scheme=scheme) as page:
        for number, row in enumerate(digits(10)[0][[2, 4]]):
            draw(page, row, 20 + 270 * number, 90, 9)
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]
        if name == "desktop":
            page.check("#why")
        page.evaluate("scrollTo(0, 0)")
        settled(page)
        page.screenshot(path=folder / f"drawing-{name}-{scheme}.png")
        ink, paper = page.evaluate("['color', 'backgroundColor'].map((name) => getComputedStyle(document.body)[name])")
        assert (brightness(ink) < brightness(paper)) == (scheme == "light")


def brightness(colour: str) -> int:
    return sum(map(int, re.findall(r"\d+", colour)[:3]))
