// The chart of a comparison: one curve a run in its colour and dashes, a legend that hides curves, a picture.

const DASHES = [[], [9, 4], [2, 3], [11, 3, 2, 3], [16, 5], [5, 2, 1, 2]];
const CURVE_NAMES = { eval_loss: "Eval loss", loss: "Training loss" };
const PICTURE = { edge: 16, line: 20, key: 34 };

function sampleOf(at) {
  const space = "http://www.w3.org/2000/svg",
    picture = document.createElementNS(space, "svg"),
    line = document.createElementNS(space, "line");
  for (const [name, value] of Object.entries({ width: 34, height: 10, "aria-hidden": "true" }))
    picture.setAttribute(name, value);
  for (const [name, value] of Object.entries({ x1: 1, y1: 5, x2: 33, y2: 5 }))
    line.setAttribute(name, value);
  line.style.stroke = `var(--compare-${at + 1})`;
  line.setAttribute("stroke-width", "2.5");
  line.setAttribute("stroke-dasharray", DASHES[at].join(" "));
  picture.append(line);
  return picture;
}

function makeCompareChart(root) {
  const canvas = root.querySelector("canvas"),
    chart = makeLineChart(canvas, root.querySelector(".chart-tip")),
    legend = root.querySelector('[data-part="legend"]'),
    slider = root.querySelector("input[type=range]"),
    hidden = new Set();
  let shown = "eval_loss",
    data = null,
    chosen = false;
  chart.view.smoothing = 0;

  function pressed(name) {
    for (const button of root.querySelectorAll("[data-curve]"))
      button.setAttribute("aria-pressed", button.dataset.curve === name);
  }

  function draw() {
    chart.view.label = CURVE_NAMES[shown];
    chart.view.empty = `None of these runs has a value for the ${CURVE_NAMES[shown].toLowerCase()}.`;
    chart.view.series = data.runs
      .map((run, at) => ({
        name: run.label,
        color: `--compare-${at + 1}`,
        dash: DASHES[at],
        points: data.curves[run.id]?.[shown] ?? [],
        dots: shown === "eval_loss",
        smooth: shown === "loss",
        id: run.id,
      }))
      .filter((one) => !hidden.has(one.id));
    slider.parentElement.hidden = shown !== "loss";
    const ends = chart.view.series
      .filter((one) => one.points.length)
      .map((one) => `${one.name} ${shortNumber(one.points.at(-1)[1])}`);
    canvas.setAttribute("aria-label", `${CURVE_NAMES[shown]} by step. Last: ${ends.join(", ")}`);
    chart.redraw();
  }

  function showLegend() {
    const buttons = data.runs.map((run, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.run = run.id;
      button.title = "Show or hide this curve";
      button.setAttribute("aria-pressed", !hidden.has(run.id));
      button.append(sampleOf(at), run.label);
      return button;
    });
    const focused = legend.contains(document.activeElement)
      ? document.activeElement.dataset.run
      : null;
    legend.replaceChildren(...buttons);
    buttons.find((one) => one.dataset.run === focused)?.focus();
  }

  // The picture has a ground of its own and the legend below the curves: it is read without the page.
  function picture() {
    const ratio = canvas.width / canvas.clientWidth,
      names = chart.view.series.map((one) => one.name),
      made = document.createElement("canvas"),
      style = getComputedStyle(canvas),
      colour = (name, otherwise) => style.getPropertyValue(name).trim() || otherwise;
    made.width = canvas.width + 2 * PICTURE.edge * ratio;
    made.height = canvas.height + (2 * PICTURE.edge + names.length * PICTURE.line) * ratio;
    const c = made.getContext("2d");
    c.fillStyle = colour("--block-background-fill", "#fff");
    c.fillRect(0, 0, made.width, made.height);
    c.drawImage(canvas, PICTURE.edge * ratio, PICTURE.edge * ratio);
    c.scale(ratio, ratio);
    c.font = `13px ${style.fontFamily}`;
    c.textBaseline = "middle";
    chart.view.series.forEach((one, row) => {
      const y = canvas.clientHeight + 2 * PICTURE.edge + row * PICTURE.line;
      c.strokeStyle = colour(one.color, "#4f46e5");
      c.lineWidth = 2.5;
      c.setLineDash(one.dash);
      c.beginPath();
      c.moveTo(PICTURE.edge, y);
      c.lineTo(PICTURE.edge + PICTURE.key, y);
      c.stroke();
      c.fillStyle = colour("--body-text-color", "#111");
      c.fillText(one.name, PICTURE.edge + PICTURE.key + 8, y);
    });
    made.toBlob((image) => image && saveFile(`comparison-${shown}.png`, image));
  }

  legend.addEventListener("click", (event) => {
    const run = event.target.closest("button")?.dataset.run;
    if (!run) return;
    if (!hidden.delete(run)) hidden.add(run);
    showLegend();
    draw();
  });
  for (const button of root.querySelectorAll("[data-curve]"))
    button.addEventListener("click", () => {
      shown = button.dataset.curve;
      chosen = true;
      pressed(shown);
      draw();
    });
  slider.addEventListener("input", () => {
    chart.view.smoothing = +slider.value;
    chart.redraw();
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
  root.querySelector('[data-tool="png"]').addEventListener("click", picture);

  return {
    forget() {
      hidden.clear();
      chosen = false;
      chart.view.zoom = null;
    },
    show(found) {
      data = found;
      const has = (name) => data.runs.some((run) => data.curves[run.id]?.[name]?.length);
      if (!chosen) pressed((shown = has("eval_loss") || !has("loss") ? "eval_loss" : "loss"));
      showLegend();
      draw();
    },
  };
}
