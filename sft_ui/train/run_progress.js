// Progress of a run: the bar of its steps, a second bar for what it does besides (preparing, evaluating),
// the time left, and the title of the browser tab. The first bar never goes back.

const APP = document.title || "SFT Studio";

function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds)),
    minutes = Math.floor(whole / 60),
    hours = Math.floor(minutes / 60);
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
}

function amount(done, total, unit) {
  if (unit === "bytes") return `${(done / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`;
  const count = `${Math.round(done).toLocaleString("en")} of ${Math.round(total).toLocaleString("en")}`;
  return unit === "answers" ? count : `${count} ${unit ?? ""}`.trim();
}

// The part a run is in besides its steps: {what, text, share}; null for none. A share of null is not known.
function partOf(state, status) {
  const now = state.progress;
  if (!now || !(status === "preparing" || status === "running")) return null;
  const { what, done = 0, total = 0, unit, words } = now;
  const counted = total > 1 || unit === "bytes";
  const share = counted && total ? Math.min(1, done / total) : null;
  const said = words ?? (counted && total ? amount(done, total, unit) : "");
  const short = isAsking(state, status) ? "Evaluating" : what;
  return { what: short, text: said ? `${what}: ${said}` : `${what}…`, share };
}

// Whether the steps are done and the models answer held-out rows.
function isAsking(state, status) {
  const over = state.total_steps && state.step >= state.total_steps;
  return Boolean(status === "running" && over && state.progress?.unit === "answers");
}

function stepsOf(state, status) {
  const { step = 0, total_steps: total = 0 } = state;
  const epochs =
    state.epoch != null
      ? ` · epoch ${state.epoch.toFixed(2)}` +
        (state.num_train_epochs ? ` of ${+state.num_train_epochs}` : "")
      : "";
  const share = total ? step / total : 0;
  const place = state.queue_position;
  if (status === "idle") return [0, "No run is training."];
  if (status === "queued")
    return [
      share,
      place > 1 ? `Waiting: number ${place} in the queue` : "Waiting: next in the queue",
    ];
  if (status === "preparing" || (status === "running" && !total))
    return [share, "Preparing model and data"];
  if (!total) return [0, "The run ended before its first step."];
  return [share, `Step ${step.toLocaleString("en")} of ${total.toLocaleString("en")}${epochs}`];
}

function makeRunProgress(root, put) {
  const bar = root.querySelector(".progress-bar"),
    line = root.querySelector('[data-live="phase"]'),
    small = root.querySelector(".phase-bar");
  let phase = null; // {what, began, first}: measures how fast answers are checked

  function fill(node, share, text) {
    const percent = Math.floor(Math.min(1, share) * 100);
    node.style.setProperty("--share", percent + "%");
    node.setAttribute("aria-valuenow", percent);
    node.setAttribute("aria-valuetext", text);
    return percent;
  }

  // Seconds that a part without an estimate of its own still takes, from its speed so far.
  function partLeft(now) {
    if (phase?.what !== now.what) phase = { what: now.what, began: Date.now(), first: now.done };
    const done = now.done - phase.first;
    return done > 0 ? (((Date.now() - phase.began) / done) * (now.total - now.done)) / 1000 : null;
  }

  function timeOf(state, status, ended) {
    const works = status === "running" || status === "saving";
    const left = isAsking(state, status) ? partLeft(state.progress) : null;
    if (left != null) return `about ${duration(left)} left`;
    if (works && state.eta_seconds > 0)
      return (
        `about ${duration(state.eta_seconds)} left` +
        (state.answer_check ? ", then the evaluation" : "")
      );
    if (!state.elapsed_seconds || status === "idle") return "";
    return `${ended ? "took" : "running for"} ${duration(state.elapsed_seconds)}`;
  }

  function titleOf(status, percent, part, stopping) {
    const said = {
      queued: "Waiting",
      preparing: "Preparing",
      running: part?.what === "Evaluating" ? part.what : `${percent}%`,
      saving: `${percent}%`,
      paused: "Stopped",
      stopped: "Stopped",
      finished: "✓ done",
      failed: "✗ failed",
    }[status];
    return said ? `${stopping ? "Stopping" : said} · ${APP}` : APP;
  }

  return function show(state, status, { live, stopping }) {
    const [share, where] = stepsOf(state, status),
      part = partOf(state, status);
    put("where", where);
    put("left", timeOf(state, status, !live));
    const percent = fill(bar, share, where);
    bar.classList.toggle("busy", status === "preparing" && !share);
    line.hidden = !part;
    if (part) {
      put("phase_what", part.text);
      fill(small, part.share ?? 0, part.text);
      small.classList.toggle("busy", part.share === null);
    }
    document.title = titleOf(status, percent, part, stopping);
    return part;
  };
}
