// The table of runs: choosing a row, sorting by a column, ticking runs for a comparison, and asking
// for new content while it is seen. In scope: from gr.HTML element and trigger.
// Gradio writes new content into the same nodes: focus and place stay, what was ticked is set again.

const LIVE_MS = 4000,
  QUIET_MS = 20_000, // while no run in it is under way
  MOST = 6;
const ticked = new Map(); // id -> name
let asked = Date.now();

setInterval(() => {
  const seen = !document.hidden && element.isConnected && element.offsetParent,
    wait = element.querySelector("[data-live]") ? LIVE_MS : QUIET_MS;
  if (!seen || Date.now() - asked < wait) return;
  asked = Date.now();
  trigger("stale");
}, 1000);

function set(node, key, value) {
  if (node && node[key] !== value) node[key] = value;
}

function barWords() {
  const names = [...ticked.values()];
  if (!names.length) return "Tick 2 to 6 runs to compare them.";
  if (names.length === 1) return `1 run ticked: ${names[0]}. Tick one more.`;
  const full = names.length === MOST ? " That is the most that fit." : "";
  return `${names.length} runs ticked.${full}`;
}

function sync() {
  for (const box of element.querySelectorAll("input[data-tick]")) {
    set(box, "checked", ticked.has(box.dataset.tick));
    set(box, "disabled", ticked.size >= MOST && !ticked.has(box.dataset.tick));
  }
  set(element.querySelector("[data-said]"), "textContent", barWords());
  const compare = element.querySelector("[data-compare]");
  set(compare, "disabled", ticked.size < 2);
  set(compare, "textContent", ticked.size < 2 ? "Compare" : `Compare ${ticked.size} runs`);
  set(element.querySelector("[data-clear]"), "hidden", !ticked.size);
}

function choose(row) {
  for (const other of element.querySelectorAll("tr[data-pick]")) {
    const isIt = other === row;
    other.classList.toggle("chosen", isIt);
    other.querySelector("button.pick").setAttribute("aria-pressed", isIt);
  }
  trigger("pick", { id: row.dataset.pick });
}

element.addEventListener("click", (event) => {
  const { target } = event,
    head = target.closest("[data-sort]"),
    row = target.closest("tr[data-pick]");
  if (head) trigger("sort", { column: head.dataset.sort });
  else if (target.closest("[data-compare]"))
    document.dispatchEvent(
      new CustomEvent("studio-compare", { detail: [...ticked.keys()].join(",") }),
    );
  else if (target.closest("[data-clear]")) {
    ticked.clear();
    sync();
  } else if (row && !target.closest(".tick")) choose(row);
});
element.addEventListener("change", ({ target }) => {
  const box = target.closest("[data-tick]");
  if (!box) return;
  if (box.checked && ticked.size < MOST) ticked.set(box.dataset.tick, box.dataset.name);
  else ticked.delete(box.dataset.tick);
  sync();
});
// A comparison that the address restores, or that is closed, ticks its runs too.
document.addEventListener("studio-compared", ({ detail }) => {
  ticked.clear();
  for (const [id, name] of detail) ticked.set(id, name);
  sync();
});
new MutationObserver(sync).observe(element, {
  childList: true,
  subtree: true,
  characterData: true,
  attributeFilter: ["data-tick", "disabled", "hidden"],
});
sync();
