// The live view of one run: polls the server and fills tiles, chart, warnings, answers and log.
// In scope: makeLineChart, shortNumber, makeEndNotice, LIVE (the live states), and from gr.HTML element, props, server, watch, trigger.
// Texts are set with textContent, so nothing a user or a model wrote becomes markup.

const root = element.querySelector(".live");
const host = element.closest("#live-chart") ?? element;
const part = (name) => root.querySelector(`[data-live="${name}"]`);
const WORDS = {
  idle: "No run",
  queued: "Waiting",
  preparing: "Preparing",
  running: "Training",
  saving: "Saving",
  paused: "Paused",
  stopped: "Stopped",
  finished: "Finished",
  failed: "Failed",
};
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
const known = {
  run: "",
  rev: null,
  seq: 0,
  stamp: null,
  state: {},
  status: "idle",
  log: "",
  logAt: 0,
  curves: {},
  shown: "loss",
};

function put(name, text) {
  const node = part(name);
  if (node.textContent !== text) node.textContent = text;
}
function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds)),
    minutes = Math.floor(whole / 60),
    hours = Math.floor(minutes / 60);
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}
function amount(done, total, unit) {
  if (unit === "bytes") return `${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
  return `${Math.round(done).toLocaleString("en")} of ${Math.round(total).toLocaleString("en")} ${unit ?? ""}`.trim();
}

function forget(run) {
  Object.assign(known, {
    run,
    rev: null,
    seq: 0,
    stamp: null,
    state: {},
    log: "",
    logAt: 0,
    curves: {},
  });
  chart.view.zoom = null;
  part("log").textContent = run ? "" : "The log of the run appears here.";
}

function addPoints(points) {
  for (const [step, ...values] of points) {
    const keys = values.length === 1 ? ["eval_loss"] : COLUMNS;
    keys.forEach((key, index) => (known.curves[key] ??= []).push([step, values[index]]));
  }
}

function showChart() {
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
  put("state", WORDS[known.status] ?? known.status);
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

function progressOf(state) {
  const { progress, step = 0, total_steps: total = 0 } = state;
  const prepares =
    progress &&
    (known.status === "preparing" ||
      known.status === "saving" ||
      (known.status === "running" && total && step >= total));
  const epochs =
    state.epoch != null
      ? ` · epoch ${state.epoch.toFixed(2)}` +
        (state.num_train_epochs ? ` of ${+state.num_train_epochs}` : "")
      : "";
  if (known.status === "idle") return [0, "No run is training."];
  if (known.status === "queued")
    return [
      0,
      state.queue_position > 1
        ? `Waiting: number ${state.queue_position} in the queue`
        : "Waiting: next in the queue",
    ];
  if (prepares)
    return [
      progress.total ? progress.done / progress.total : 0,
      `${progress.what}: ${progress.words ?? amount(progress.done, progress.total, progress.unit)}`,
    ];
  if (known.status === "preparing" || (known.status === "running" && !total))
    return [0, "Preparing model and data"];
  if (!total) return [0, "The run ended before its first step."];
  return [
    step / total,
    `Step ${step.toLocaleString("en")} of ${total.toLocaleString("en")}${epochs}`,
  ];
}

function showProgress(state) {
  const [share, where] = progressOf(state);
  const percent = Math.round(Math.min(1, share) * 100),
    bar = root.querySelector(".progress-bar");
  put("where", where);
  const left =
    state.eta_seconds != null && known.status === "running" && state.eta_seconds > 0
      ? `about ${duration(state.eta_seconds)} left`
      : "";
  put(
    "left",
    left ||
      (state.elapsed_seconds && known.status !== "idle" ? duration(state.elapsed_seconds) : ""),
  );
  bar.style.setProperty("--share", percent + "%");
  bar.setAttribute("aria-valuenow", percent);
  bar.setAttribute("aria-valuetext", where);
  bar.classList.toggle("busy", known.status === "preparing" && !state.progress?.total);
  document.title = known.status === "running" ? `${percent}% · SFT Studio` : "SFT Studio";
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
  warnings.hidden = !list.length;
  warnings
    .querySelector("ul")
    .replaceChildren(
      ...list.map((text) => Object.assign(document.createElement("li"), { textContent: text })),
    );
}

const shortText = (text) => (text.length > 400 ? text.slice(0, 400) + "…" : text);

// runs of earlier versions say only what was answered
const isRight = (example, key) =>
  example[`${key}_right`] ?? (example[key] ?? "").trim() === (example.expected ?? "").trim();

function note(words) {
  const line = document.createElement("span");
  line.className = "quiet";
  line.textContent = words;
  return line;
}

function folded(title, text) {
  const details = document.createElement("details"),
    summary = document.createElement("summary"),
    body = document.createElement("div");
  summary.textContent = title;
  body.textContent = text;
  details.append(summary, body);
  return details;
}

function showAnswers(answers) {
  const card = part("answers");
  card.hidden = !answers;
  if (!answers) return;
  const share = (part) =>
    `${Math.round(part * 100)}% (${Math.round(part * answers.rows)} of ${answers.rows})`;
  put(
    "answers_score",
    `Right answers on held-out rows: base model ${share(answers.base)}, tuned model ${share(answers.tuned)}.`,
  );
  const rows = (answers.examples ?? []).map((example) => {
    const row = document.createElement("tr");
    for (const key of ["prompt", "expected", "base", "tuned"]) {
      const cell = document.createElement("td"),
        text = document.createElement("div");
      text.textContent = shortText(example[key] ?? "");
      cell.append(text);
      if (key === "prompt" && example.images)
        cell.append(
          note(example.images === 1 ? "with 1 picture" : `with ${example.images} pictures`),
        );
      const thought = example[`${key}_reasoning`];
      if (thought) cell.append(folded("Thought", shortText(thought)));
      if (key === "base" || key === "tuned")
        cell.className = isRight(example, key) ? "right" : "wrong";
      row.append(cell);
    }
    return row;
  });
  card.querySelector("tbody").replaceChildren(...rows);
}

function addLog(answer) {
  if (answer.log === undefined) return;
  known.log = (answer.log_fresh ? "" : known.log) + answer.log;
  known.logAt = answer.log_at;
  const plain = known.log
    .replace(/\x1b\[[0-9;]*[A-Za-z]/g, "")
    .split("\n")
    .slice(-300);
  known.log = plain.join("\n");
  const box = part("log"),
    atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.textContent = plain.map((line) => line.replace(/\r+$/, "").replace(/^.*\r/, "")).join("\n");
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function setStatus(status) {
  host.dataset.status = status;
  if (status === known.status) return;
  if (LIVE.includes(known.status) && !LIVE.includes(status) && status !== "idle")
    notice.tell(known.state.name ?? "", WORDS[status] ?? status);
  known.status = status;
  put("said", `Run ${known.state.name ?? ""}: ${WORDS[status] ?? status}`);
  trigger("statuschange", { status, run: known.run });
}

function take(answer) {
  if (answer.rev !== known.rev) {
    known.curves = {};
    known.rev = answer.rev;
  }
  known.seq = answer.seq;
  addPoints(answer.points);
  addLog(answer);
  if (answer.state) {
    known.stamp = answer.stamp;
    known.state = answer.state;
    setStatus(answer.state.state);
    showTiles(answer.state);
    showProgress(answer.state);
    showFindings(answer.state);
    showAnswers(answer.state.answers);
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
  showTiles({});
  showProgress({});
  showFindings({});
  showAnswers(null);
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
      const logAt = root.querySelector("#run-log").open ? known.logAt : null;
      const answer = await server.watch_run({
        run: wanted,
        rev: known.rev,
        seq: known.seq,
        stamp: known.stamp,
        log_at: logAt,
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
root.querySelector('[data-tool="log"]').addEventListener("click", (event) => {
  chart.view.log = !chart.view.log;
  event.currentTarget.setAttribute("aria-pressed", chart.view.log);
  chart.redraw();
});
root.querySelector('[data-tool="reset"]').addEventListener("click", () => {
  chart.view.zoom = null;
  chart.redraw();
});
root.querySelector("input[type=range]").addEventListener("input", (event) => {
  chart.view.smoothing = +event.target.value;
  chart.redraw();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
watch("value", poll);
showNothing();
poll();
