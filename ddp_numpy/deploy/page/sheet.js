/**
 * The sheet that is drawn on, by mouse, touch, pen or keyboard. It keeps strokes, so that the last one can be undone.
 *
 * Its pixels do not depend on how large it is shown: a stroke is {width, points: [[x, y], …]} in pixels of the sheet.
 */

export const WIDTH = 560;
export const HEIGHT = 420;
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const KEY_STEP = 14;

export class Sheet {
  /** changed: called when there is other ink. width: a function that returns that of the pen. */
  constructor(canvas, width, changed) {
    Object.assign(this, { canvas, width, changed, strokes: [], picture: null, frame: 0 });
    canvas.width = WIDTH;
    canvas.height = HEIGHT;
    this.context = canvas.getContext("2d");
    this.hidden = new OffscreenCanvas(WIDTH, HEIGHT).getContext("2d", { willReadFrequently: true });
    this.drawn = new Map(); // strokes that are being drawn, by pointer
    this.pen = { x: WIDTH / 2, y: HEIGHT / 2, stroke: null }; // of the keyboard
    canvas.addEventListener("pointerdown", (event) => this.#begin(event));
    canvas.addEventListener("pointermove", (event) => this.#go(event));
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, (event) => this.drawn.delete(event.pointerId));
    }
    canvas.addEventListener("keydown", (event) => this.#key(event));
    for (const name of ["focus", "blur"]) canvas.addEventListener(name, () => this.show());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.show());
    this.show();
  }

  get empty() {
    return !this.strokes.length && !this.picture;
  }

  /** What is drawn, as a picture of ink: {ink, width, height}. */
  get ink() {
    if (this.picture) return this.picture;
    this.#redraw();
    const { data } = this.hidden.getImageData(0, 0, WIDTH, HEIGHT);
    const ink = new Uint8Array(WIDTH * HEIGHT);
    for (let n = 0; n < ink.length; n++) ink[n] = data[4 * n + 3];
    return { ink, width: WIDTH, height: HEIGHT };
  }

  /** Draw strokes in place of all that is there. */
  draw(strokes) {
    this.strokes = strokes;
    this.picture = null;
    this.drawn.clear();
    this.pen.stroke = null;
    this.#tell();
  }

  /** Show a picture of ink in place of all that is there. */
  open(picture) {
    this.draw([]);
    this.picture = picture;
  }

  clear() {
    this.draw([]);
  }

  undo() {
    this.draw(this.strokes.slice(0, -1));
  }

  /** Show what is drawn, in the colours of the page, and the keyboard's pen if the keyboard is used. */
  show() {
    const { context, canvas, pen } = this;
    const style = getComputedStyle(canvas);
    context.globalCompositeOperation = "source-over";
    context.clearRect(0, 0, WIDTH, HEIGHT);
    this.#redraw();
    context.drawImage(this.hidden.canvas, 0, 0);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = style.color;
    context.fillRect(0, 0, WIDTH, HEIGHT);
    if (!canvas.matches(":focus-visible")) return;
    context.globalCompositeOperation = "source-over";
    context.strokeStyle = style.outlineColor;
    context.lineWidth = 3;
    context.beginPath();
    context.arc(pen.x, pen.y, this.width() / 2 + 4, 0, 2 * Math.PI);
    context.stroke();
  }

  #begin(event) {
    if (event.button) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true, focusVisible: false });
    this.canvas.setPointerCapture(event.pointerId);
    this.drawn.set(event.pointerId, this.#new(this.#place(event)));
  }

  #go(event) {
    const stroke = this.drawn.get(event.pointerId);
    if (!stroke) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) stroke.points.push(this.#place(one));
    this.#tell();
  }

  #key(event) {
    const { pen } = this;
    if (event.key in KEYS) {
      const step = event.shiftKey ? 2 : KEY_STEP;
      pen.x = Math.min(Math.max(pen.x + KEYS[event.key][0] * step, 0), WIDTH);
      pen.y = Math.min(Math.max(pen.y + KEYS[event.key][1] * step, 0), HEIGHT);
      if (pen.stroke) {
        pen.stroke.points.push([pen.x, pen.y]);
        this.#tell();
      } else this.show();
    } else if (event.key === " ") pen.stroke = pen.stroke ? null : this.#new([pen.x, pen.y]);
    else if (event.key === "Delete") this.clear();
    else if (event.key === "Backspace" || (event.key === "z" && (event.ctrlKey || event.metaKey))) this.undo();
    else return;
    event.preventDefault();
  }

  /** A new stroke, which is a dot at first. */
  #new(point) {
    if (this.picture) this.clear();
    const stroke = { width: this.width(), points: [point] };
    this.strokes.push(stroke);
    this.#tell();
    return stroke;
  }

  #place({ clientX, clientY }) {
    const { left, top, width, height } = this.canvas.getBoundingClientRect();
    return [((clientX - left) * WIDTH) / width, ((clientY - top) * HEIGHT) / height];
  }

  /** Each stroke is drawn as a whole: in pieces, their smooth ends would darken one another. */
  #redraw() {
    const { hidden, picture, strokes } = this;
    hidden.clearRect(0, 0, WIDTH, HEIGHT);
    if (picture) this.#redrawPicture(picture);
    hidden.lineCap = hidden.lineJoin = "round";
    for (const { width, points } of strokes) {
      hidden.lineWidth = width;
      hidden.beginPath();
      hidden.moveTo(...points[0]);
      for (const point of points) hidden.lineTo(...point);
      hidden.stroke();
    }
  }

  #redrawPicture({ ink, width, height }) {
    const pixels = new ImageData(width, height);
    ink.forEach((value, n) => (pixels.data[4 * n + 3] = value));
    const whole = new OffscreenCanvas(width, height);
    whole.getContext("2d").putImageData(pixels, 0, 0);
    const scale = Math.min(WIDTH / width, HEIGHT / height);
    const [left, top] = [(WIDTH - width * scale) / 2, (HEIGHT - height * scale) / 2];
    this.hidden.drawImage(whole, left, top, width * scale, height * scale);
  }

  /** Once before the screen is drawn again, however many events come until then. */
  #tell() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.show();
      this.changed();
    });
  }
}
