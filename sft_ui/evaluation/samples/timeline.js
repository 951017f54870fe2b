// Answers to held-out prompts while a run trains: a prompt a line of time, newest answer first.
// In scope: made, drawnPieces, plainText, foldedText.

const SHOWN_ANSWERS = 3;

const stepWords = (step) => (step ? `Step ${step.toLocaleString("en")}` : "Before training");

function drawnSample(sample, isNewest) {
  const item = made("li"),
    head = made("div", "sample-step", stepWords(sample.step));
  if (sample.right) head.append(made("span", "mark-note right", "✓ as expected"));
  if (sample.changed === false) head.append(made("span", "mark-note", "unchanged"));
  if (sample.cut) head.append(made("span", "mark-note", "cut at the limit of tokens"));
  item.append(head);
  if (isNewest || sample.changed !== false) item.append(drawnPieces(sample.pieces));
  return item;
}

function drawnPrompt(samples, isOpen, turned) {
  const newest = [...samples.values()].sort((a, b) => b.step - a.step),
    box = made("article", "sample"),
    list = made("ol"),
    rest = newest.slice(SHOWN_ANSWERS);
  box.append(plainText(newest[0].prompt), foldedText("Expected answer", newest[0].expected));
  box.firstChild.classList.add("sample-prompt");
  list.append(...newest.slice(0, SHOWN_ANSWERS).map((one, at) => drawnSample(one, at === 0)));
  box.append(list);
  if (rest.length) {
    const more = made("details", "folded"),
      earlier = made("ol");
    more.open = isOpen;
    more.addEventListener("toggle", () => turned(more.open));
    const words = rest.length === 1 ? "1 earlier answer" : `${rest.length} earlier answers`;
    earlier.append(...rest.map((one) => drawnSample(one, false)));
    more.append(made("summary", "quiet", words), earlier);
    box.append(more);
  }
  return box;
}

// Takes the samples of a run as the server tells them; undefined: nothing new.
function makeTimeline(root) {
  const part = (name) => root.querySelector(`[data-samples="${name}"]`);
  const known = { run: "", rows: new Map(), open: new Set() };

  function show() {
    root.hidden = !known.rows.size;
    const rows = [...known.rows].sort(([a], [b]) => a - b);
    part("prompts").replaceChildren(
      ...rows.map(([row, samples]) =>
        drawnPrompt(samples, known.open.has(row), (open) =>
          known.open[open ? "add" : "delete"](row),
        ),
      ),
    );
    part("said").textContent =
      known.rows.size === 1 ? "1 held-out prompt" : `${known.rows.size} held-out prompts`;
  }

  return function take(run, samples) {
    const other = run !== known.run;
    if (!other && !samples) return;
    if (other || samples.fresh) known.rows = new Map();
    if (other) known.open = new Set();
    known.run = run;
    for (const sample of samples?.new ?? []) {
      if (!known.rows.has(sample.row)) known.rows.set(sample.row, new Map());
      known.rows.get(sample.row).set(sample.step, sample);
    }
    show();
  };
}
