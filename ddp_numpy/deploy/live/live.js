/** Follows runs by a stream of server-sent events, and draws them over one another. */

const COLOURS = ["#1f77b4", "#e07b1a", "#2f9e5b", "#c23b4e", "#8467c4", "#8a6a4f", "#d267ad", "#7a8288", "#a8a820", "#1fa9b8"];
const CHARTS = [
  { title: "Loss", log: true, lines: [["valid_loss", "", []], ["train_loss", " (train)", [5, 4]]] },
  { title: "Accuracy", percent: true, lines: [["valid_accuracy", "", []], ["train_accuracy", " (train)", [5, 4]]] },
  { title: "R²", lines: [["valid_r2", "", []]] },
  { title: "Rows a second", lines: [["images_per_second", "", []]] },
  { title: "Learning rate", lines: [["lr", "", []]] },
];
const byId = (id) => document.getElementById(id);
const runs = new Map(); // by folder: what the server told, with colour and whether it is shown
let plots = [];

const percent = (share) => `${(100 * share).toFixed(2)} %`;
const number = (value) =>
  value && Math.abs(value) < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(4)).toLocaleString("en");

function duration(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

const stream = new EventSource("events");
stream.onopen = () => (byId("link").textContent = "Live");
stream.onerror = () => (byId("link").textContent = "The server does not answer; trying again …");
stream.onmessage = ({ data }) => {
  const news = JSON.parse(data);
  // A run tells of its progress each second: the charts only change with its epochs.
  const redrawn = news.some(({ folder, from, epochs }) => epochs.length || from !== runs.get(folder)?.epochs.length);
  news.forEach(take);
  byId("none").hidden = runs.size > 0;
  if (redrawn) draw();
  document.documentElement.dataset.ready = "";
};

function take(told) {
  const before = runs.get(told.folder);
  const epochs = before ? before.epochs.slice(0, told.from).concat(told.epochs) : told.epochs;
  const kept = before ?? { shown: true, colour: COLOURS[runs.size % COLOURS.length] };
  const run = { ...kept, ...told, epochs };
  runs.set(told.folder, run);
  card(run);
}

/** The card of a run: made once, and filled anew with each news. */
function card(run) {
  run.card ??= newCard(run);
  const lines = [...facts(run)];
  run.card.querySelector(".status").textContent = run.status;
  const bar = run.card.querySelector("progress");
  const [done, all] = share(run);
  bar.max = all;
  bar.value = done;
  bar.ariaLabel = `${run.name}: ${percent(done / all)} done`;
  run.card.querySelector("dl").replaceChildren(...lines.flatMap(([name, value]) => [text("dt", name), text("dd", value)]));
  run.card.querySelector(".ranks").replaceChildren(...ranks(run));
}

function newCard(run) {
  const made = document.createElement("article");
  made.className = "run";
  made.style.setProperty("--colour", run.colour);
  const label = document.createElement("label");
  const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
  box.addEventListener("change", () => {
    runs.get(run.folder).shown = box.checked;
    draw();
  });
  label.append(box, text("h3", run.name));
  const ranksOfRun = document.createElement("div");
  ranksOfRun.className = "ranks";
  const status = text("p", "");
  status.className = "status soft";
  made.append(label, status, document.createElement("progress"), document.createElement("dl"), ranksOfRun);
  byId("runs").append(made);
  return made;
}

/** How many epochs are done, and how many there are to be. */
function share({ progress, epochs, options, status }) {
  const done = progress ? progress.epoch - 1 + progress.step / progress.steps : (epochs.at(-1)?.epoch ?? 0);
  const all = progress?.epochs ?? options.epochs ?? Math.max(done, 1);
  return [done, status === "finished" ? Math.max(done, 1) : all];
}

function* facts(run) {
  const { progress, epochs, starts, checkpoints, options, test } = run;
  const last = epochs.at(-1);
  const [done, all] = share(run);
  yield ["epoch", `${progress ? progress.epoch : (last?.epoch ?? 0)} of ${options.epochs ?? all}` +
    (progress ? `, step ${progress.step.toLocaleString("en")} of ${progress.steps.toLocaleString("en")}` : "")];
  if (run.status === "running" && last) yield ["time left", duration((all - done) * last.seconds)];
  const rate = progress?.images_per_second ?? last?.images_per_second;
  if (rate) yield ["rate", `${number(rate)} rows/s`];
  const lr = progress?.lr ?? last?.lr ?? options.lr;
  if (Number.isFinite(lr)) yield ["learning rate", number(lr)];
  if (progress) yield ["loss so far", number(progress.train_loss)];
  const start = starts.at(-1);
  if (start) yield ["ranks", `${start.ranks} on ${start.hosts.join(", ")}`];
  if (starts.length > 1) {
    const again = starts.slice(1).map(({ epoch, step }) => `after epoch ${epoch}${step ? `, step ${step}` : ""}`);
    yield ["started again", again.join("; ")];
  }
  if (checkpoints.length) yield ["checkpoints", `${checkpoints.length}: ${checkpoints.length > 4 ? "… " : ""}${checkpoints.slice(-4).join(", ")}`];
  if (test?.test_accuracy) yield ["test", percent(test.test_accuracy)];
}

/** Each rank of the last start, with the share of the last epoch that it waited for others. */
function ranks({ epochs, starts }) {
  const waiting = epochs.at(-1)?.waiting ?? [];
  const { rank_hosts: places, hosts } = starts.at(-1) ?? {};
  if (waiting.length < 2) return [];
  return waiting.flatMap((part, rank) => {
    const host = places?.length === waiting.length ? ` on ${hosts[places[rank]]}` : "";
    const bar = document.createElement("div");
    bar.className = "share";
    bar.style.width = `${100 * Math.min(part, 1)}%`;
    return [text("span", `rank ${rank}${host} waits`), bar, text("span", `${(100 * part).toFixed(1)} %`)];
  });
}

function text(name, words) {
  const element = document.createElement(name);
  element.textContent = words;
  return element;
}

/** The charts and the table of the runs that are shown. */
function draw() {
  const shown = [...runs.values()].filter((run) => run.shown && run.epochs.length);
  for (const plot of plots) plot.destroy();
  byId("charts").replaceChildren();
  const boxes = CHARTS.flatMap((chart) => {
    const lines = chart.lines.flatMap(([name, words, dash]) =>
      shown.filter((run) => run.epochs.some((epoch) => Number.isFinite(epoch[name]))).map((run) => ({ run, name, words, dash })),
    );
    return lines.length ? [{ chart, lines, box: boxOf(chart) }] : [];
  });
  plots = boxes.map(({ chart, lines, box }) => plotOf(chart, lines, box)); // once all boxes are as wide as they will be
  compare(shown);
}

function boxOf({ title }) {
  const box = document.createElement("div");
  box.className = "chart";
  box.append(text("h2", title));
  byId("charts").append(box);
  return box;
}

function plotOf({ log, percent: isPercent }, lines, box) {
  const over = byId("over").value;
  const tables = lines.map(({ run, name }) => [places(run, over), run.epochs.map((epoch) => epoch[name] ?? null)]);
  const { color } = getComputedStyle(document.body);
  const grid = { stroke: getComputedStyle(box).borderTopColor, width: 1 };
  const shownAs = (value) => (value == null ? "" : isPercent ? percent(value) : number(value));
  const axis = { stroke: color, grid, ticks: grid };
  const axisValues = (_, values) => values.map((value) => (isPercent ? `${number(100 * value)} %` : shownAs(value)));
  return new uPlot(
    {
      width: box.clientWidth - 16,
      height: 260,
      scales: { x: { time: false }, y: log ? { distr: 3 } : {} },
      axes: [{ ...axis, label: over }, { ...axis, size: 64, values: axisValues }],
      series: [
        { label: over },
        ...lines.map(({ run, words, dash }) => ({
          label: run.name + words, stroke: run.colour, width: 2, dash, spanGaps: true, value: (_, value) => shownAs(value),
          points: { show: run.epochs.length < 40 },
        })),
      ],
    },
    uPlot.join(tables),
    box,
  );
}

/** Where a run's epochs stand on the axis. */
function places({ epochs }, over) {
  let seconds = 0;
  return epochs.map((epoch) => (over === "epoch" ? epoch.epoch : (seconds += epoch.seconds)));
}

function compare(shown) {
  const table = byId("comparison");
  const best = (run, name, pick) => {
    const found = run.epochs.map((epoch) => epoch[name]).filter(Number.isFinite);
    return found.length ? pick(...found) : null;
  };
  const columns = [
    ["run", (run) => run.name],
    ["epochs", (run) => String(run.epochs.length)],
    ["lowest valid loss", (run) => best(run, "valid_loss", Math.min), number],
    ["best accuracy", (run) => best(run, "valid_accuracy", Math.max), percent],
    ["best R²", (run) => best(run, "valid_r2", Math.max), number],
    ["rows/s", (run) => run.epochs.at(-1).images_per_second, number],
    ["seconds", (run) => run.epochs.reduce((sum, { seconds }) => sum + seconds, 0), number],
    ["ranks", (run) => String(run.starts.at(-1)?.ranks ?? "")],
    ...["model", "optimizer", "lr", "batch-size", "seed"].map((name) => [name, (run) => String(run.options[name] ?? "")]),
  ].filter(([, value]) => shown.some((run) => value(run) !== null));
  table.hidden = !shown.length;
  const row = (cells, name) => {
    const made = document.createElement("tr");
    made.append(...cells.map((cell, n) => text(n ? name : "th", cell)));
    return made;
  };
  table.querySelector("thead").replaceChildren(row(columns.map(([name]) => name), "th"));
  const shownAs = (value, format = (same) => same) => (value === null || value === undefined ? "" : format(value));
  table.querySelector("tbody").replaceChildren(
    ...shown.map((run) => row(columns.map(([, value, format]) => shownAs(value(run), format)), "td")),
  );
}

byId("over").addEventListener("change", draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
addEventListener("resize", () => plots.forEach((plot) => plot.setSize({ width: plot.root.parentElement.clientWidth - 16, height: 260 })));
