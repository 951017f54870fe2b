// The live view of one run: polls the server and fills tiles, chart, warnings and log; tells other
// components what it watches.
// In scope: makeLineChart, shortNumber, makeEndNotice, makeRunProgress, makeRunLog, saveFile, duration, LIVE (the live states), WORDS (their names), and from gr.HTML element, props, server, watch, trigger.
// Texts are set with textContent, so nothing a user or a model wrote becomes markup.

const root = element.querySelector(".live");
const host = element.closest("#live-chart") ?? element;
const part = (name) => root.querySelector(`[data-live="${name}"]`);
const EMPTY = {
  idle: "The curve appears here once a run is training.",
  queued: "Waiting in the queue…",
  preparing: "Preparing model and data…",
  running: "Waiting for the first step…",
  failed: "The run failed before its first step.",
};
const CHARTS = {
  loss: [
    { key: "loss", name: "train", color: "--chart-train", smooth: true },
    { key: "eval_loss", name: "eval", color: "--chart-eval", dots: true },
  ],
  learning_rate: [{ key: "learning_rate", name: "learning rate", color: "--chart-train" }],
  grad_norm: [{ key: "grad_norm", name: "gradient norm", color: "--chart-train", smooth: true }],
  tokens_per_second: [
    { key: "tokens_per_second", name: "tokens per second", color: "--chart-train", smooth: true },
  ],
};
const COLUMNS = ["loss", "learning_rate", "grad_norm", "tokens_per_second", "memory_gb"];
const chart = makeLineChart(root.querySelector("canvas"), root.querySelector(".chart-tip"));
const notice = makeEndNotice(root.querySelector('[data-tool="notice"]'));
const log = makeRunLog(root);
const takeSamples = makeTimeline(root.querySelector(".samples"));
const showProgress = makeRunProgress(root, put);
const SHORT_RUN = 60; // points
const OVERDUE_S = 20; // after so long a stop may be enforced
const HURRY_MS = 10_000; // after a press of a button its effect is looked for more often
const PRESSED = "#stop-training, #resume-training, #train-longer, #end-now-yes, [id^=retry-run]";
const known = {
  run: "",
  rev: null,
  seq: 0,
  samples: 0,
  stamp: null,
  state: {},
  status: "idle",
  stopping: null, // seconds since a stop was asked for
  pressed: 0, // when a stop was pressed here, before the server knows
  hurry: 0,
  curves: {},
  shown: "loss",
  log: false,
};

function put(name, text) {
  const node = part(name);
  if (node.textContent !== text) node.textContent = text;
}
function forget(run) {
  Object.assign(known, {
    run,
    rev: null,
    seq: 0,
    samples: 0,
    stamp: null,
    state: {},
    stopping: null,
    curves: {},
  });
  chart.view.zoom = null;
  log.forget(run);
}

function addPoints(points) {
  for (const [step, ...values] of points) {
    const keys = values.length === 1 ? ["eval_loss"] : COLUMNS;
    keys.forEach((key, index) => (known.curves[key] ??= []).push([step, values[index]]));
  }
}

function curvesAsCsv() {
  const names = [...COLUMNS, "eval_loss"].filter((name) => known.curves[name]?.length),
    rows = new Map();
  for (const name of names)
    for (const [step, value] of known.curves[name])
      rows.set(step, { ...rows.get(step), [name]: value });
  const lines = [...rows.keys()]
    .sort((a, b) => a - b)
    .map((step) => [step, ...names.map((name) => rows.get(step)[name] ?? "")].join(","));
  return [["step", ...names].join(","), ...lines, ""].join("\n");
}

// A short run has too few points for a mean: it is drawn as it is, unless one moves the slider.
function smoothAsNeeded() {
  if (known.smoothed) return;
  const weight = (known.curves.loss?.length ?? 0) < SHORT_RUN ? 0 : 0.6;
  chart.view.smoothing = root.querySelector("input[type=range]").value = weight;
}

// Speed has no orders of magnitude to show: on its chart the logarithm is off and cannot be chosen.
function showScale() {
  const button = root.querySelector('[data-tool="log"]');
  button.disabled = known.shown === "tokens_per_second";
  chart.view.log = known.log && !button.disabled;
  button.setAttribute("aria-pressed", chart.view.log);
}

function showChart() {
  smoothAsNeeded();
  showScale();
  chart.view.label = CHARTS[known.shown].length > 1 ? "loss" : CHARTS[known.shown][0].name;
  for (const name of ["csv", "png"])
    root.querySelector(`[data-tool="${name}"]`).hidden = !known.curves.loss?.length;
  chart.view.series = CHARTS[known.shown].map((one) => ({
    ...one,
    points: known.curves[one.key] ?? [],
  }));
  chart.view.empty = EMPTY[known.status] ?? "No values were recorded.";
  const legend = chart.view.series.map((one) => {
    const item = document.createElement("span"),
      mark = document.createElement("i");
    mark.style.background = `var(${one.color})`;
    item.append(mark, one.name);
    return item;
  });
  part("legend").replaceChildren(...legend);
  chart.redraw();
}

function showTiles(state) {
  for (const key of ["loss", "eval_loss", "learning_rate"])
    put(key, shortNumber(state[key] ?? null));
  const speed = state.tokens_per_second;
  put(
    "tokens_per_second",
    speed
      ? speed >= 1e4
        ? (speed / 1e3).toFixed(1) + "k"
        : Math.round(speed).toLocaleString("en")
      : "–",
  );
  put("memory_gb", state.memory_gb ? state.memory_gb.toFixed(1) + " GB" : "–");
}

function showFindings(state) {
  const error = part("error"),
    warnings = part("warnings"),
    list = state.warnings ?? [];
  error.hidden = !state.error;
  if (state.error)
    [state.error.what, state.error.where, state.error.fix, state.error.safe].forEach(
      (text, index) => {
        error.children[index].textContent = text ?? "";
      },
    );
  const stalled = part("stalled"),
    still = LIVE.includes(known.status) ? state.no_progress : null;
  stalled.hidden = !still;
  if (still)
    put(
      "stalled",
      `No progress for ${duration(still.seconds)}${still.frozen ? ": the training process is not responding" : ""}. It may recover; Stop ends the run and keeps its last checkpoint.`,
    );
  fillList(warnings, list);
  fillList(part("paths"), state.paths ?? []);
}

function fillList(box, list) {
  box.hidden = !list.length;
  box
    .querySelector("ul")
    .replaceChildren(
      ...list.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
    );
}

function isStopping() {
  const pressed = Date.now() - known.pressed < 3000;
  return LIVE.includes(known.status) && (known.stopping != null || pressed);
}

// Stop tells at once that it was heard, before the server's answer redraws it.
function showState(part) {
  const stopping = isStopping();
  put("state", stopping ? "Stopping…" : (part?.what ?? WORDS[known.status] ?? known.status));
  const button = document.querySelector("#stop-training");
  if (button) button.dataset.state = stopping ? "stopping" : "idle";
}

function setStatus(status, stopping = null) {
  host.dataset.status = status;
  const late = (seconds) => (seconds == null ? 0 : seconds < OVERDUE_S ? 1 : 2);
  const turned = late(stopping) !== late(known.stopping);
  known.stopping = stopping;
  if (status === known.status) {
    if (turned) trigger("statuschange", { status, run: known.run });
    return;
  }
  if (LIVE.includes(known.status) && !LIVE.includes(status) && status !== "idle")
    notice.tell(known.state.name ?? "", WORDS[status] ?? status);
  known.status = status;
  put("said", `Run ${known.state.name ?? ""}: ${WORDS[status] ?? status}`);
  notice.offer(LIVE.includes(status));
  trigger("statuschange", { status, run: known.run });
}

function showAdvance() {
  const live = LIVE.includes(known.status);
  showState(showProgress(known.state, known.status, { live, stopping: isStopping() }));
}

// The result of the run is a component of its own, which hears here what to show.
function tellWatchers() {
  const detail = { run: known.run, stamp: `${known.status} ${known.state.evaluations}` };
  document.dispatchEvent(new CustomEvent("studio-watched", { detail }));
}

function take(answer) {
  if (answer.rev !== known.rev) {
    known.curves = {};
    known.rev = answer.rev;
  }
  known.seq = answer.seq;
  addPoints(answer.points);
  log.take(answer);
  if (answer.state) {
    known.stamp = answer.stamp;
    known.state = answer.state;
  }
  if (answer.samples) known.samples = answer.samples.at;
  setStatus(known.state.state, answer.stopping ?? null);
  showAdvance();
  tellWatchers();
  takeSamples(known.run, answer.samples);
  if (answer.state) {
    showTiles(answer.state);
    showFindings(answer.state);
    const say = (name) => part(name).textContent;
    root
      .querySelector("canvas")
      .setAttribute(
        "aria-label",
        `Chart of the run. ${say("where")}, training loss ${say("loss")}, eval loss ${say("eval_loss")}`,
      );
  }
  if (answer.state || answer.points.length) showChart();
}

function showNothing() {
  setStatus("idle");
  tellWatchers();
  takeSamples("");
  showTiles({});
  showAdvance();
  showFindings({});
  showChart();
}

let timer = 0,
  asking = false;
async function poll() {
  clearTimeout(timer);
  if (!root.isConnected) return;
  const wanted = props.value || "";
  if (wanted !== known.run) {
    forget(wanted);
    if (!wanted) showNothing();
  }
  let wait = 1000;
  if (wanted && (!document.hidden || notice.on) && !asking) {
    asking = true;
    try {
      const answer = await server.watch_run({
        run: wanted,
        rev: known.rev,
        seq: known.seq,
        stamp: known.stamp,
        log_at: log.isOpen() ? log.at : null,
        samples_at: known.samples,
      });
      if (wanted === (props.value || "") && wanted === known.run) {
        if (answer.gone) {
          props.value = "";
          forget("");
          showNothing();
        } else take(answer);
      }
      root.classList.remove("offline");
      if (!LIVE.includes(known.status)) wait = 3000;
      if (Date.now() < known.hurry) wait = 400;
    } catch (failure) {
      root.classList.add("offline");
      wait = 5000;
    }
    asking = false;
    if ((props.value || "") !== known.run) wait = 0;
  }
  timer = setTimeout(poll, wait);
}

for (const button of root.querySelectorAll("[data-chart]"))
  button.addEventListener("click", () => {
    known.shown = button.dataset.chart;
    for (const other of root.querySelectorAll("[data-chart]"))
      other.setAttribute("aria-pressed", other === button);
    showChart();
  });
root.querySelector('[data-tool="log"]').addEventListener("click", () => {
  known.log = !known.log;
  showScale();
  chart.redraw();
});
root.querySelector('[data-tool="reset"]').addEventListener("click", () => {
  chart.view.zoom = null;
  chart.redraw();
});
root.querySelector("input[type=range]").addEventListener("input", (event) => {
  known.smoothed = true;
  chart.view.smoothing = +event.target.value;
  chart.redraw();
});
document.addEventListener("click", (event) => {
  const button = event.target.closest?.(PRESSED);
  if (!button || button.disabled || !root.isConnected) return;
  known.hurry = Date.now() + HURRY_MS;
  if (button.id === "stop-training") known.pressed = Date.now();
  showAdvance();
  setTimeout(poll, 150);
});
root
  .querySelector('[data-tool="csv"]')
  .addEventListener("click", () => saveFile(`${known.run}-curves.csv`, curvesAsCsv(), "text/csv"));
root
  .querySelector('[data-tool="png"]')
  .addEventListener("click", () =>
    root
      .querySelector("canvas")
      .toBlob((image) => image && saveFile(`${known.run}-${known.shown}.png`, image)),
  );
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
watch("value", poll);
showNothing();
poll();
