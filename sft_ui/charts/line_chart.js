// A line chart on a canvas: several series, smoothing, log scale, zoom, crosshair, keyboard.
// Series: {name, color, points: [[x, y|null]], dots, smooth, dash}; `color` is a CSS variable, `dash` the
// lengths of lines and gaps. Knows nothing of runs.

function movingAverage(points, weight) {
  if (!weight) return points;
  let mean = 0,
    total = 0;
  return points.map(([x, y]) => {
    if (y === null) return [x, null];
    mean = mean * weight + y * (1 - weight);
    total = total * weight + (1 - weight);
    return [x, mean / total];
  });
}

// Keep the lowest and highest point of every pixel column, so that no spike disappears.
function thinToPixels(points, low, high, columns) {
  if (points.length <= columns * 2) return points;
  const width = (high - low) / columns || 1,
    kept = [];
  let column = null,
    min = null,
    max = null;
  const flush = () => {
    if (!min) return;
    kept.push(...(min === max ? [min] : min[0] < max[0] ? [min, max] : [max, min]));
    min = max = null;
  };
  for (const point of points) {
    const here = Math.floor((point[0] - low) / width);
    if (here !== column || point[1] === null) {
      flush();
      column = here;
    }
    if (point[1] === null) {
      kept.push(point);
      continue;
    }
    if (!min || point[1] < min[1]) min = point;
    if (!max || point[1] > max[1]) max = point;
  }
  flush();
  return kept;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / count || 1,
    power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const ticks = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-9; value += step)
    ticks.push(+value.toPrecision(10));
  return ticks;
}

function logTicks(low, high) {
  const ticks = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++)
    for (const factor of [1, 2, 5]) ticks.push(factor * 10 ** power);
  const inside = ticks.filter((value) => Math.log10(value) >= low && Math.log10(value) <= high);
  return inside.length > 1 ? inside : niceTicks(low, high, 4).map((value) => 10 ** value);
}

function shortNumber(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1e4) return Math.round(value).toLocaleString("en");
  if (size && size < 1e-3) return value.toExponential(1).replace("e-0", "e-");
  return String(+value.toPrecision(4));
}

function nearestIndex(points, x) {
  let low = 0,
    high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low && x - points[low - 1][0] < points[low][0] - x ? low - 1 : low;
}

function makeLineChart(canvas, tip) {
  const EDGE = { left: 52, right: 14, top: 20, bottom: 28 };
  const view = {
    series: [],
    log: false,
    smoothing: 0.6,
    zoom: null,
    hover: null,
    drag: null,
    empty: "",
    label: "",
  };
  let frame = null,
    scheduled = 0;
  const styleOf = (name, otherwise) =>
    getComputedStyle(canvas).getPropertyValue(name).trim() || otherwise;

  function range() {
    const drawn = view.series.filter((one) => one.points.length);
    if (!drawn.length) return null;
    let low = Infinity,
      high = -Infinity;
    for (const { points } of drawn) {
      low = Math.min(low, points[0][0]);
      high = Math.max(high, points[points.length - 1][0]);
    }
    if (view.zoom) [low, high] = view.zoom;
    return high > low ? [low, high] : [low - 0.5, low + 0.5];
  }

  function scale(value) {
    return view.log ? Math.log10(Math.max(value, 1e-12)) : value;
  }

  function layout(width, height) {
    const [x0, x1] = range();
    const inside = (points) => points.filter(([x]) => x >= x0 && x <= x1);
    const series = view.series
      .filter((one) => one.points.length)
      .map((one) => ({
        ...one,
        raw: inside(one.points),
        line: one.smooth ? inside(movingAverage(one.points, view.smoothing)) : inside(one.points),
      }));
    let y0 = Infinity,
      y1 = -Infinity;
    for (const { raw, line } of series)
      for (const [, y] of [...raw, ...line])
        if (y !== null) {
          y0 = Math.min(y0, scale(y));
          y1 = Math.max(y1, scale(y));
        }
    if (!isFinite(y0)) {
      y0 = 0;
      y1 = 1;
    }
    const room = (y1 - y0) * 0.08 || Math.abs(y1) * 0.1 || 0.1;
    y0 -= room;
    y1 += room;
    const inner = {
      width: width - EDGE.left - EDGE.right,
      height: height - EDGE.top - EDGE.bottom,
    };
    return {
      width,
      height,
      inner,
      x0,
      x1,
      y0,
      y1,
      series,
      x: (value) => EDGE.left + ((value - x0) / (x1 - x0)) * inner.width,
      y: (value) => EDGE.top + (1 - (scale(value) - y0) / (y1 - y0)) * inner.height,
      value: (pixel) => x0 + ((pixel - EDGE.left) / inner.width) * (x1 - x0),
    };
  }

  function drawAxes(c, at) {
    const text = styleOf("--body-text-color-subdued", "#666");
    c.strokeStyle = styleOf("--border-color-primary", "#ddd");
    c.fillStyle = text;
    c.lineWidth = 1;
    c.textAlign = "right";
    c.textBaseline = "middle";
    for (const tick of view.log ? logTicks(at.y0, at.y1) : niceTicks(at.y0, at.y1, 5)) {
      const y = Math.round(at.y(tick)) + 0.5;
      c.beginPath();
      c.moveTo(EDGE.left, y);
      c.lineTo(at.width - EDGE.right, y);
      c.stroke();
      c.fillText(shortNumber(tick), EDGE.left - 8, y);
    }
    c.textAlign = "center";
    c.textBaseline = "top";
    const whole = niceTicks(at.x0, at.x1, Math.max(4, Math.floor(at.width / 110))).filter(
      Number.isInteger,
    );
    for (const tick of whole)
      c.fillText(shortNumber(tick), at.x(tick), at.height - EDGE.bottom + 9);
    c.textAlign = "right";
    c.fillText("step", at.width - EDGE.right, at.height - EDGE.bottom - 14);
    c.textAlign = "left";
    c.fillText(view.label, EDGE.left + 4, 2);
  }

  function drawLine(c, at, points, color, alpha, width, dash = []) {
    c.strokeStyle = color;
    c.setLineDash(dash);
    c.globalAlpha = alpha;
    c.lineWidth = width;
    c.lineJoin = "round";
    c.beginPath();
    let pen = false;
    for (const [x, y] of thinToPixels(points, at.x0, at.x1, at.inner.width)) {
      if (y === null) {
        pen = false;
        continue;
      }
      if (pen) c.lineTo(at.x(x), at.y(y));
      else c.moveTo(at.x(x), at.y(y));
      pen = true;
    }
    c.stroke();
    c.setLineDash([]);
    c.globalAlpha = 1;
  }

  function drawDot(c, at, [x, y], color, radius) {
    if (y === null) return;
    c.fillStyle = color;
    c.beginPath();
    c.arc(at.x(x), at.y(y), radius, 0, 7);
    c.fill();
  }

  function drawSeries(c, at) {
    for (const one of at.series) {
      const color = styleOf(one.color, "#6366f1");
      if (one.smooth && view.smoothing) drawLine(c, at, one.raw, color, 0.28, 1);
      drawLine(c, at, one.line, color, 1, 2.2, one.dash);
      if (one.dots || one.raw.length === 1)
        for (const point of one.raw) drawDot(c, at, point, color, 3);
    }
  }

  function drawCrosshair(c, at) {
    if (view.hover === null) {
      tip.hidden = true;
      return;
    }
    c.strokeStyle = styleOf("--body-text-color-subdued", "#666");
    c.setLineDash([4, 4]);
    c.beginPath();
    c.moveTo(view.hover, EDGE.top);
    c.lineTo(view.hover, at.height - EDGE.bottom);
    c.stroke();
    c.setLineDash([]);
    const lines = [];
    let step = null;
    for (const one of at.series) {
      if (!one.line.length) continue;
      const index = nearestIndex(one.line, at.value(view.hover)),
        point = one.line[index];
      step ??= point[0];
      drawDot(c, at, point, styleOf(one.color, "#6366f1"), 4.5);
      lines.push([one, point, one.raw[index]]);
    }
    fillTip(step, lines);
    tip.style.left = Math.max(0, Math.min(view.hover + 14, at.width - tip.offsetWidth - 4)) + "px";
  }

  function fillTip(step, lines) {
    const title = document.createElement("b");
    title.textContent = "step " + step;
    tip.replaceChildren(
      title,
      ...lines.map(([one, [x, y], [, raw]]) => {
        const line = document.createElement("div"),
          mark = document.createElement("i");
        mark.style.background = `var(${one.color})`;
        const where = x === step ? "" : ` (step ${x})`,
          exact =
            one.smooth && view.smoothing && raw !== y ? ` · unsmoothed ${shortNumber(raw)}` : "";
        line.append(mark, `${one.name} ${shortNumber(y)}${exact}${where}`);
        return line;
      }),
    );
    tip.hidden = false;
  }

  function draw() {
    const width = canvas.clientWidth,
      height = canvas.clientHeight,
      ratio = devicePixelRatio || 1;
    if (!width || !height) return;
    if (
      canvas.width !== Math.round(width * ratio) ||
      canvas.height !== Math.round(height * ratio)
    ) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    const c = canvas.getContext("2d");
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.clearRect(0, 0, width, height);
    c.font = "12px " + getComputedStyle(canvas).fontFamily;
    if (!range()) {
      frame = null;
      tip.hidden = true;
      c.fillStyle = styleOf("--body-text-color-subdued", "#666");
      c.textAlign = "center";
      c.textBaseline = "middle";
      c.fillText(view.empty, width / 2, height / 2, width - 20);
      return;
    }
    frame = layout(width, height);
    drawAxes(c, frame);
    drawSeries(c, frame);
    if (view.drag) {
      c.fillStyle = styleOf("--color-accent", "#6366f1");
      c.globalAlpha = 0.12;
      c.fillRect(
        Math.min(...view.drag),
        EDGE.top,
        Math.abs(view.drag[1] - view.drag[0]),
        frame.inner.height,
      );
      c.globalAlpha = 1;
    }
    drawCrosshair(c, frame);
  }

  function redraw() {
    if (!scheduled)
      scheduled = requestAnimationFrame(() => {
        scheduled = 0;
        draw();
      });
  }

  const clamp = (pixel) => Math.max(EDGE.left, Math.min(pixel, canvas.clientWidth - EDGE.right));
  const pixelOf = (event) => clamp(event.clientX - canvas.getBoundingClientRect().left);
  canvas.addEventListener("pointermove", (event) => {
    view.hover = pixelOf(event);
    if (view.drag) view.drag[1] = view.hover;
    redraw();
  });
  canvas.addEventListener("pointerleave", () => {
    view.hover = null;
    redraw();
  });
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button) return;
    view.drag = [pixelOf(event), pixelOf(event)];
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointerup", () => {
    if (view.drag && frame && Math.abs(view.drag[1] - view.drag[0]) > 8)
      view.zoom = view.drag.map(frame.value).sort((a, b) => a - b);
    view.drag = null;
    redraw();
  });
  canvas.addEventListener("dblclick", () => {
    view.zoom = null;
    redraw();
  });
  canvas.addEventListener("keydown", (event) => {
    if (!frame) return;
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") {
      view.hover = null;
      view.zoom = null;
    } else if (move)
      view.hover = clamp(
        (view.hover ?? EDGE.left + frame.inner.width / 2) +
          move * Math.max(4, frame.inner.width / 60),
      );
    else return;
    event.preventDefault();
    redraw();
  });
  canvas.addEventListener("blur", () => {
    view.hover = null;
    redraw();
  });
  new ResizeObserver(redraw).observe(canvas);
  new MutationObserver(redraw).observe(document.body, {
    attributes: true,
    attributeFilter: ["class"],
  });
  return { view, redraw };
}
