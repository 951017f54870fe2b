// Histogram of token lengths with a draggable limit (arrow keys work too) beyond which rows are cut.
// The server counts; the effect of a limit is computed here from the lengths it sent.
// In scope from gr.HTML: element, props, server, watch, trigger. Texts are set with textContent, never as markup.

const root = element.querySelector(".lengths"),
  svg = root.querySelector("svg"),
  tip = root.querySelector(".chart-tip");
const part = (name) => root.querySelector(`[data-lengths="${name}"]`);
const input = root.querySelector("input"),
  EDGE = { left: 46, right: 16, top: 22, bottom: 26 },
  HEIGHT = 220;
const state = { asked: "", report: null, limit: 0, chosen: 0, timer: 0 };
const number = (value) => Math.round(value).toLocaleString("en");

function node(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

// Number of rows longer than `limit`; `steps` are ascending [length, number of longer rows].
function rowsOver(steps, limit, all = state.report.rows) {
  let low = 0,
    high = steps.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (steps[middle][0] <= limit) low = middle + 1;
    else high = middle;
  }
  return low ? steps[low - 1][1] : all;
}

function share(count, all) {
  const percent = (100 * count) / all;
  if (!count) return "0%";
  if (percent < 0.1) return "under 0.1%";
  return `${percent < 10 ? percent.toFixed(1) : Math.round(percent)}%`;
}

function rowsWords(count) {
  return `${number(count)} ${count === 1 ? "row" : "rows"}`;
}

function consequence(limit) {
  const { rows, over, late, taught } = state.report,
    cut = rowsOver(over, limit),
    lost = rowsOver(late, limit - 1, taught);
  if (!cut && !lost) return `At ${number(limit)} tokens, no row is cut.`;
  const losing = lost
    ? `; ${rowsWords(lost)} (${share(lost, rows)}) would lose the whole answer`
    : "; every answer keeps at least its beginning";
  return `At ${number(limit)} tokens, ${rowsWords(cut)} (${share(cut, rows)}) would be cut${losing}.`;
}

function scales() {
  const { bars } = state.report,
    edges = bars.edges,
    width = svg.clientWidth || 600;
  const turn = bars.log ? (value) => Math.log2(Math.max(1, value)) : (value) => value;
  const low = turn(edges[0]),
    high = turn(edges[edges.length - 1]),
    inner = width - EDGE.left - EDGE.right;
  const most = Math.max(1, ...bars.counts);
  return {
    width,
    inner,
    first: edges[0],
    last: edges[edges.length - 1],
    most,
    log: bars.log,
    x: (value) =>
      EDGE.left + Math.max(0, Math.min(1, (turn(value) - low) / (high - low || 1))) * inner,
    y: (count) => EDGE.top + (1 - count / most) * (HEIGHT - EDGE.top - EDGE.bottom),
    value: (pixel) => {
      const at = low + Math.max(0, Math.min(1, (pixel - EDGE.left) / inner)) * (high - low);
      return Math.round(bars.log ? 2 ** at : at);
    },
  };
}

function niceSteps(low, high, count) {
  const rough = Math.max(1, (high - low) / count),
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power,
    found = [];
  for (let value = Math.ceil(low / step) * step; value <= high; value += step) found.push(value);
  return found;
}

function ticks(at) {
  if (!at.log) return niceSteps(at.first, at.last, Math.max(3, Math.floor(at.inner / 90)));
  const found = [];
  for (let value = 1; value <= at.last; value *= 2) if (value >= at.first) found.push(value);
  const every = Math.ceil(found.length / Math.max(2, Math.floor(at.inner / 56)));
  return found.filter((_, index) => index % every === 0);
}

function drawFrame(at) {
  const group = node("g", { "aria-hidden": "true" }),
    floor = HEIGHT - EDGE.bottom;
  for (const count of niceSteps(0, at.most, 3).filter(Number.isInteger)) {
    const y = at.y(count);
    group.append(
      node("line", { class: "grid", x1: EDGE.left, x2: at.width - EDGE.right, y1: y, y2: y }),
    );
    group.append(node("text", { x: EDGE.left - 8, y: y + 4, "text-anchor": "end" }, number(count)));
  }
  for (const value of ticks(at))
    group.append(
      node("text", { x: at.x(value), y: floor + 17, "text-anchor": "middle" }, number(value)),
    );
  return group;
}

function drawBars(at) {
  const group = node("g", {}),
    { edges, counts } = state.report.bars,
    line = at.x(state.limit),
    floor = HEIGHT - EDGE.bottom;
  const beyond = state.limit >= at.last;
  counts.forEach((count, index) => {
    if (!count) return;
    const left = at.x(edges[index]),
      right = at.x(edges[index + 1]) - (at.inner / counts.length > 4 ? 1 : 0);
    const top = Math.min(at.y(count), floor - 1.5),
      middle = beyond ? right : Math.max(left, Math.min(right, line));
    if (middle > left)
      group.append(
        node("rect", {
          class: "whole",
          x: left,
          y: top,
          width: middle - left,
          height: floor - top,
        }),
      );
    if (right > middle)
      group.append(
        node("rect", {
          class: "over",
          x: middle,
          y: top,
          width: right - middle,
          height: floor - top,
        }),
      );
  });
  return group;
}

function drawHandle(at) {
  const x = at.x(state.limit),
    beyond = state.limit > at.last,
    right = x > at.width - 90;
  const handle = node("g", {
    class: "handle",
    tabindex: "0",
    role: "slider",
    "aria-label": "Maximum length, in tokens",
    "aria-valuemin": 16,
    "aria-valuemax": Math.max(at.last, state.limit),
    "aria-valuenow": state.limit,
    "aria-valuetext": consequence(state.limit),
  });
  handle.append(
    node("rect", { class: "reach", x: x - 12, y: 0, width: 24, height: HEIGHT - EDGE.bottom }),
  );
  handle.append(
    node("line", {
      x1: x,
      x2: x,
      y1: 14,
      y2: HEIGHT - EDGE.bottom,
      "stroke-dasharray": beyond ? "4 4" : "none",
    }),
  );
  handle.append(node("circle", { class: "grip", cx: x, cy: 14, r: 6 }));
  const label = beyond ? `cut at ${number(state.limit)} →` : `cut at ${number(state.limit)}`;
  handle.append(
    node(
      "text",
      { x: x + (right ? -12 : 12), y: 18, "text-anchor": right ? "end" : "start" },
      label,
    ),
  );
  handle.addEventListener("keydown", onKey);
  return handle;
}

function draw() {
  if (!state.report || !svg.clientWidth) return;
  const at = scales(),
    hadFocus = document.activeElement?.closest?.(".handle") && svg.contains(document.activeElement);
  const handle = drawHandle(at);
  svg.setAttribute("viewBox", `0 0 ${at.width} ${HEIGHT}`);
  svg.replaceChildren(drawFrame(at), drawBars(at), handle);
  if (hadFocus) handle.focus({ preventScroll: true });
  part("said").textContent = consequence(state.limit);
  for (const button of part("marks").children)
    button.setAttribute("aria-pressed", +button.dataset.limit === state.limit);
  part("take").disabled = state.limit === state.chosen;
  part("take").textContent =
    state.limit === state.chosen ? "Current limit" : `Use ${number(state.limit)} as the limit`;
}

function setLimit(value, from) {
  state.limit = Math.max(16, Math.min(1_000_000, Math.round(value) || 16));
  if (from !== "input") input.value = state.limit;
  draw();
}

function onKey(event) {
  const move = {
    ArrowLeft: -1,
    ArrowDown: -1,
    ArrowRight: 1,
    ArrowUp: 1,
    PageDown: -16,
    PageUp: 16,
  }[event.key];
  const step = Math.max(1, Math.round(state.limit / 64));
  if (event.key === "Home") setLimit(16);
  else if (event.key === "End") setLimit(state.report.longest);
  else if (move) setLimit(state.limit + move * step);
  else return;
  event.preventDefault();
}

function showMarks() {
  const marks = state.report.marks.map((limit) => {
    const button = document.createElement("button"),
      cut = rowsOver(state.report.over, limit);
    Object.assign(button, {
      type: "button",
      textContent: `${number(limit)}: ${cut ? `${share(cut, state.report.rows)} cut` : "none cut"}`,
    });
    button.dataset.limit = limit;
    button.title = consequence(limit);
    button.addEventListener("click", () => setLimit(limit));
    return button;
  });
  part("marks").replaceChildren(...marks);
}

function made(name, text, kind) {
  return Object.assign(document.createElement(name), { textContent: text, className: kind ?? "" });
}

function showTotals({ trained, context, steps }) {
  const pairs = [
    [trained, "learned tokens"],
    [context, "context tokens"],
    ...(steps
      ? [[steps, steps === 1 ? "step with these settings" : "steps with these settings"]]
      : []),
  ];
  part("totals").replaceChildren(
    ...pairs.map(([count, words]) => {
      const box = document.createElement("div");
      box.append(made("b", number(count)), " ", made("span", words));
      return box;
    }),
  );
}

function finding({ code, severity, what, fix, count, can_drop, choices }) {
  const item = made("li", "", `finding ${severity}`),
    head = made("div", "", "finding-head"),
    mark = made("i", severity === "info" ? "i" : "!");
  mark.setAttribute("aria-hidden", "true");
  head.append(mark, made("b", what), made("span", rowsWords(count), "count"));
  const tools = made("div", "", "finding-rows"),
    about = { code, count: state.report.count, limit: state.report.limit };
  const button = (words, event) => {
    const one = Object.assign(made("button", words), { type: "button" });
    one.addEventListener("click", () => trigger(event, about));
    return one;
  };
  tools.append(button(count === 1 ? "Show this row" : "Show these rows", "rows"));
  if (can_drop)
    tools.append(
      button(
        count === 1 ? "Create a version without it" : "Create a version without them",
        "clean",
      ),
    );
  for (const { words, change } of choices) {
    const one = Object.assign(made("button", words, "choice"), { type: "button" });
    one.addEventListener("click", () => trigger("decide", { change }));
    tools.append(one);
  }
  item.append(head, made("p", fix), tools);
  return item;
}

function show(answer) {
  const counting = answer.state === "counting",
    share = answer.total ? Math.min(1, answer.done / answer.total) : 0;
  root.hidden = answer.state === "none";
  part("wait").hidden = !counting;
  part("error").hidden = answer.state !== "error";
  part("chart").hidden = answer.state !== "done";
  part("model").textContent = answer.model ?? "";
  if (counting) {
    part("waiting").textContent = answer.total
      ? `Counting tokens: ${number(answer.done)} of ${number(answer.total)} rows`
      : "Loading the tokenizer…";
    const bar = root.querySelector(".progress-bar");
    bar.style.setProperty("--share", `${Math.round(100 * share)}%`);
    bar.setAttribute("aria-valuenow", Math.round(100 * share));
    bar.classList.toggle("busy", !answer.total);
  }
  if (answer.state === "error") {
    const lines = [answer.error.what, answer.error.where, answer.error.fix].map((text) =>
      Object.assign(document.createElement("p"), { textContent: text }),
    );
    part("error").replaceChildren(...lines);
  }
  if (answer.state !== "done") return;
  const isNew = !state.report;
  state.report = answer;
  if (isNew) trigger("counted", {});
  showTotals(answer.totals);
  part("problems").hidden = !answer.problems.length;
  part("problems").replaceChildren(...answer.problems.map(finding));
  showMarks();
  setLimit(state.chosen);
}

async function poll() {
  clearTimeout(state.timer);
  if (!root.isConnected) return;
  const wanted = props.value || "";
  if (wanted !== state.asked) {
    const before = state.asked ? JSON.parse(state.asked) : {},
      now = wanted ? JSON.parse(wanted) : {};
    Object.assign(state, { asked: wanted, chosen: now.max_length ?? 0 });
    if (!now.dataset) {
      state.report = null;
      root.hidden = true;
      return;
    }
    if (before.key !== now.key) state.report = null;
  } else if (state.report) return;
  if (!wanted) return;
  let wait = 600;
  try {
    const answer = await server.watch_lengths(JSON.parse(wanted));
    if (wanted !== (props.value || "")) {
      poll();
      return;
    }
    show(answer);
    if (answer.state !== "counting") return;
  } catch (failure) {
    wait = 4000;
  }
  state.timer = setTimeout(poll, document.hidden ? 3000 : wait);
}

const pixel = (event) => event.clientX - svg.getBoundingClientRect().left;
function hover(event) {
  const at = scales(),
    value = at.value(pixel(event)),
    { edges, counts } = state.report.bars;
  const index = edges.findIndex((edge, position) => value >= edge && value < edges[position + 1]);
  tip.hidden = index < 0 || !counts[index] || state.drag;
  if (tip.hidden) return;
  const until = edges[index + 1] - 1,
    from = number(edges[index]);
  tip.textContent = `${until > edges[index] ? `${from} to ${number(until)}` : from} tokens: ${rowsWords(counts[index])}`;
  tip.style.left = `${Math.max(0, Math.min(pixel(event) + 12, at.width - tip.offsetWidth - 4))}px`;
}
svg.addEventListener("pointerdown", (event) => {
  if (event.button || !state.report) return;
  state.drag = true;
  svg.setPointerCapture(event.pointerId);
  setLimit(scales().value(pixel(event)));
});
svg.addEventListener("pointermove", (event) => {
  if (!state.report) return;
  if (state.drag) setLimit(scales().value(pixel(event)));
  hover(event);
});
for (const name of ["pointerup", "pointercancel"])
  svg.addEventListener(name, () => {
    state.drag = false;
  });
svg.addEventListener("pointerleave", () => {
  tip.hidden = true;
});
input.addEventListener("input", () => {
  if (+input.value >= 16) setLimit(+input.value, "input");
});
input.addEventListener("change", () => setLimit(+input.value));
part("take").addEventListener("click", () => {
  state.chosen = state.limit;
  trigger("takeover", { max_length: state.limit });
  draw();
});
new ResizeObserver(draw).observe(svg);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
watch("value", poll);
poll();
