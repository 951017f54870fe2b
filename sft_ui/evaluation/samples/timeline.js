// Answers to held-out prompts while a run trains: a prompt a line of time, newest answer first.
// In scope: made, drawnPieces, plainText, foldedText, and from gr.HTML element. The live view hands over the samples by the event studio-watched.

const root = element.querySelector(".samples");
const part = (name) => root.querySelector(`[data-samples="${name}"]`);
const SHOWN_ANSWERS = 3;
const known = { run: "", rows: new Map(), open: new Set() };

const stepWords = (step) => (step ? `Step ${step.toLocaleString("en")}` : "Before training");

function drawnSample(sample) {
  const item = made("li"),
    head = made("div", "sample-step", stepWords(sample.step));
  if (sample.right) head.append(made("span", "mark-note right", "✓ as expected"));
  if (sample.changed === false) head.append(made("span", "mark-note", "unchanged"));
  if (sample.cut) head.append(made("span", "mark-note", "cut at the limit of tokens"));
  item.append(head);
  if (sample.changed !== false) item.append(drawnPieces(sample.pieces));
  return item;
}

function drawnPrompt(row, samples) {
  const newest = [...samples.values()].sort((a, b) => b.step - a.step),
    box = made("article", "sample"),
    list = made("ol"),
    rest = newest.slice(SHOWN_ANSWERS);
  box.append(plainText(newest[0].prompt), foldedText("Expected answer", newest[0].expected));
  box.firstChild.classList.add("sample-prompt");
  list.append(...newest.slice(0, SHOWN_ANSWERS).map(drawnSample));
  box.append(list);
  if (rest.length) {
    const more = made("details", "folded"),
      earlier = made("ol");
    more.open = known.open.has(row);
    more.addEventListener("toggle", () => known.open[more.open ? "add" : "delete"](row));
    const words = rest.length === 1 ? "1 earlier answer" : `${rest.length} earlier answers`;
    earlier.append(...rest.map(drawnSample));
    more.append(made("summary", "quiet", words), earlier);
    box.append(more);
  }
  return box;
}

function show() {
  root.hidden = !known.rows.size;
  part("prompts").replaceChildren(
    ...[...known.rows].sort(([a], [b]) => a - b).map(([row, samples]) => drawnPrompt(row, samples)),
  );
  const count = known.rows.size === 1 ? "1 held-out prompt" : `${known.rows.size} held-out prompts`;
  part("said").textContent = count;
}

document.addEventListener("studio-watched", ({ detail }) => {
  if (!root.isConnected) return;
  const other = detail.run !== known.run;
  if (!other && !detail.samples) return;
  if (other || detail.samples?.fresh) {
    known.rows = new Map();
    if (other) known.open = new Set();
  }
  known.run = detail.run;
  for (const sample of detail.samples?.new ?? []) {
    if (!known.rows.has(sample.row)) known.rows.set(sample.row, new Map());
    known.rows.get(sample.row).set(sample.step, sample);
  }
  show();
});
