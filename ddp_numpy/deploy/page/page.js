/** The page: reads what is drawn each time that it changes, and shows what the network makes of it. */

import { Network, softmax } from "./network.js";
import { centred, digits, greyAndAlpha, ink } from "./picture.js";
import { Sheet } from "./sheet.js";
import { showLayer, showReasons, showRow } from "./views.js";

const MOST_PIXELS = 2048 * 2048; // of an opened picture; larger ones are made smaller first
const QUIET_MILLISECONDS = 500; // before a screen reader is told
const STILL = ["Augment", "Dropout", "Flatten", "Reshape"]; // layers that show nothing of their own

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;

const about = await (await fetch("network.json")).json();
const networks = new Map();
let network = await networkOf(about.steps.length - 1);
let compared = null; // onnxruntime's session of this step, if it is asked for
let found = []; // of each digit: {row, logits, probabilities, activations, best, left, top, width, height}
let chosen = 0;
let quiet = 0;

const sheet = new Sheet(byId("sheet"), () => Number(byId("pen").value), read);

function networkOf(step) {
  if (!networks.has(step)) networks.set(step, load(about.steps[step].weights));
  return networks.get(step);
}

async function load(name) {
  const weights = new Float32Array(await (await fetch(name)).arrayBuffer());
  return new Network(about.model, weights);
}

/** Read all that is drawn, and show it. */
function read() {
  const start = performance.now();
  const pictures = sheet.empty ? [] : digits(sheet.ink);
  const prepared = performance.now();
  found = pictures.map((picture) => {
    const row = centred(picture);
    const logits = network.forward(row);
    const probabilities = softmax(logits);
    const best = probabilities.indexOf(Math.max(...probabilities));
    return { ...picture, row, logits, probabilities, best, activations: network.activations };
  });
  const end = performance.now();
  chosen = newest();
  byId("speed").textContent = found.length
    ? `${(end - prepared).toFixed(1)} ms in the network, ${(prepared - start).toFixed(1)} ms to find the digits`
    : "";
  show();
  if (compared) compare();
}

/** The number of the digit that the last stroke belongs to. */
function newest() {
  const [x, y] = sheet.strokes.at(-1)?.points.at(-1) ?? [0, 0];
  const distance = ({ left, top, width, height }) => Math.hypot(left + width / 2 - x, top + height / 2 - y);
  return found.reduce((best, one, n) => (distance(one) < distance(found[best]) ? n : best), 0);
}

function show() {
  const names = found.map(({ best }) => about.classes[best]);
  const text = names.join(names.every((name) => name.length === 1) ? "" : " ");
  byId("answer").textContent = text || "Nothing is drawn yet.";
  byId("answer").classList.toggle("none", !text);
  clearTimeout(quiet);
  quiet = setTimeout(() => (byId("said").textContent = text && `Read as ${text}`), QUIET_MILLISECONDS);
  const why = byId("why").checked;
  byId("why-hint").hidden = !why;
  const buttons = byId("seen");
  while (buttons.children.length > found.length) buttons.lastChild.remove();
  while (buttons.children.length < found.length) buttons.append(seenButton(buttons.children.length));
  found.forEach(({ row, best, probabilities }, n) => {
    const button = buttons.children[n];
    button.ariaPressed = String(n === chosen);
    button.ariaLabel = `${about.classes[best]}, ${percent(probabilities[best])}`;
    if (why) showReasons(button.firstChild, row, reasons(row, best));
    else showRow(button.firstChild, row);
  });
  showChosen();
}

function showChosen() {
  const { probabilities, best, activations } = found[chosen] ?? {};
  [...byId("bars").tBodies[0].rows].forEach((row, n) => {
    row.classList.toggle("likeliest", n === best);
    row.cells[1].firstChild.style.width = `${100 * (probabilities?.[n] ?? 0)}%`;
    row.cells[2].textContent = probabilities ? percent(probabilities[n]) : "";
  });
  byId("inside").hidden = !activations;
  if (!activations) return;
  for (const figure of byId("layers").children) {
    const n = Number(figure.dataset.layer);
    showLayer(figure.lastChild, activations[n], network.chain.layers[n].shape);
  }
}

/** The value of each pixel times how much the answer changes with it. */
function reasons(row, best) {
  network.forward(row);
  return network.gradient(best).map((gradient, n) => gradient * row[n]);
}

function seenButton(number) {
  const button = document.createElement("button");
  button.type = "button";
  button.append(document.createElement("canvas"));
  button.addEventListener("click", () => {
    chosen = number;
    show();
  });
  return button;
}

/** Take the weights of another step of the training. */
async function take(step) {
  const next = await networkOf(step);
  if (step !== Number(byId("step").value)) return; // the slider went on meanwhile
  network = next;
  byId("step-name").textContent = about.steps[step].name;
  if (compared) await startComparing(step).catch(comparingFailed);
  read();
}

async function open(file) {
  if (!file) return;
  const trouble = byId("trouble");
  trouble.textContent = "";
  try {
    const image = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    const scale = Math.min(1, Math.sqrt(MOST_PIXELS / (image.width * image.height)));
    const canvas = new OffscreenCanvas(Math.ceil(image.width * scale), Math.ceil(image.height * scale));
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    const picture = ink(greyAndAlpha(context.getImageData(0, 0, canvas.width, canvas.height)));
    if (picture) sheet.open(picture);
    else trouble.textContent = `${file.name}: nothing is drawn on it`;
  } catch {
    trouble.textContent = `${file.name}: no picture that can be read`;
  }
}

async function startComparing(step) {
  const runtime = await import("./onnxruntime/ort.wasm.min.mjs");
  runtime.env.wasm.numThreads = 1;
  runtime.env.wasm.wasmPaths = new URL("onnxruntime/", location.href).href;
  const session = await runtime.InferenceSession.create(about.steps[step].onnx);
  compared = { session, Tensor: runtime.Tensor };
}

function comparingFailed({ message }) {
  compared = null;
  byId("compare").checked = false;
  byId("compared").textContent = `onnxruntime can't run here: ${message}`;
}

/** Show what onnxruntime makes of the same pixels. */
async function compare() {
  const { session, Tensor } = compared;
  const digitsNow = found;
  const output = byId("compared");
  if (!digitsNow.length) {
    output.textContent = "Nothing is drawn yet.";
    return;
  }
  const rows = Float32Array.from(digitsNow.flatMap(({ row }) => [...row]));
  const features = new Tensor("float32", rows, [digitsNow.length, ...about.model.input_shape]);
  const start = performance.now();
  const { logits } = await session.run({ features });
  const milliseconds = performance.now() - start;
  if (digitsNow !== found) return; // more was drawn meanwhile
  const ours = digitsNow.flatMap((one) => [...one.logits]);
  const difference = ours.reduce((most, logit, n) => Math.max(most, Math.abs(logit - logits.data[n])), 0);
  const classes = about.classes.length;
  const text = digitsNow.map((_, n) => {
    const part = [...logits.data.slice(n * classes, (n + 1) * classes)];
    return about.classes[part.indexOf(Math.max(...part))];
  });
  output.textContent =
    `onnxruntime reads ${text.join(" ")} in ${milliseconds.toFixed(1)} ms; logits differ by ` +
    `${difference.toExponential(0)} at most`;
}

function build() {
  byId("about").textContent = about.about;
  for (const name of about.classes) {
    const row = byId("bars").tBodies[0].insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    const bar = document.createElement("div");
    bar.className = "bar";
    row.insertCell().append(bar);
    row.insertCell();
  }
  about.layers.forEach((title, n) => {
    if (STILL.includes(about.model.layers[n].type)) return;
    const figure = document.createElement("figure");
    const caption = document.createElement("figcaption");
    caption.textContent = `${title}: ${network.chain.layers[n].shape.join(" x ")}`;
    figure.dataset.layer = n;
    figure.append(caption, document.createElement("canvas"));
    byId("layers").append(figure);
  });
  const slider = byId("step");
  slider.max = slider.value = about.steps.length - 1;
  byId("step-name").textContent = about.steps.at(-1).name;
  byId("learning").hidden = about.steps.length < 2;
  byId("comparing").hidden = !about.steps[0].onnx;
}

build();
byId("undo").addEventListener("click", () => sheet.undo());
byId("clear").addEventListener("click", () => sheet.clear());
byId("why").addEventListener("change", show);
byId("step").addEventListener("input", (event) => take(Number(event.target.value)));
byId("upload").addEventListener("change", async ({ target }) => {
  await open(target.files[0]);
  target.value = ""; // so that the same file can be opened again
});
byId("compare").addEventListener("change", async ({ target }) => {
  compared = null;
  byId("compared").textContent = target.checked ? "onnxruntime is starting …" : "";
  if (!target.checked) return;
  await startComparing(Number(byId("step").value)).then(compare).catch(comparingFailed);
});
read();
navigator.serviceWorker?.register("worker.js");
document.documentElement.dataset.ready = "";
