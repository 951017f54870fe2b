// The comparison of runs: which runs the address names, asking for them, and filling the parts.
// In scope: makeCompareChart, makeCompareAnswers, showRuns, showScores, showSettings, showList, saveFile, MOST,
// and from gr.HTML element and server. The page tells of the runs to compare by the event studio-compare
// (ids with commas); studio-compared tells which runs are shown, as [id, name].

const root = element.querySelector(".compare");
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const tool = (name) => root.querySelector(`[data-tool="${name}"]`);
const EVERY_MS = 3000;
const shown = { ids: [], stamp: "", data: null };
const ask = (what, more = {}) => server.compared({ runs: shown.ids, what, ...more });
const chart = makeCompareChart(root);
const answers = makeCompareAnswers(root, (at) => ask("row", { at }));
let timer = 0,
  turn = 0;

const idsOf = (text) => (text ? text.split(",").filter(Boolean).slice(0, MOST + 1) : []);
const inAddress = () => new URL(location.href).searchParams.get("compare") ?? "";

function showError(error) {
  part("error").hidden = !error;
  part("body").hidden = Boolean(error);
  if (!error) return;
  [error.what, error.where, error.fix].forEach((text, at) => {
    part("error").children[at].textContent = text;
  });
  for (const name of ["runs", "findings", "notes"]) part(name).replaceChildren();
}

function fill(data) {
  shown.data = data;
  shown.stamp = data.stamp;
  showError(null);
  root.style.setProperty("--runs", data.runs.length);
  showRuns(part("runs"), data.runs);
  showList(part("findings"), data.findings);
  showList(part("notes"), data.notes);
  chart.show(data);
  showScores(part("scores"), part("scores-note"), data);
  showSettings(part("settings"), part("settings-note"), data, tool("differences").checked);
  answers.show(data);
}

async function read() {
  clearTimeout(timer);
  const mine = ++turn;
  if (!shown.ids.length) return;
  let wait = EVERY_MS;
  if (!document.hidden && (!shown.data || element.offsetParent)) {
    try {
      const found = await ask("all", { stamp: shown.stamp });
      if (mine !== turn) return;
      root.classList.remove("offline");
      if (found.error) showError(found.error);
      else if (!found.same) {
        const first = !shown.data;
        fill(found);
        if (first) begun(found);
      }
    } catch {
      root.classList.add("offline");
      wait = 2 * EVERY_MS;
    }
  }
  if (mine === turn) timer = setTimeout(read, wait);
}

function begun(found) {
  const names = found.runs.map((run) => run.label);
  part("said").textContent = `Comparison of ${names.join(", ")}`;
  document.dispatchEvent(
    new CustomEvent("studio-compared", { detail: found.runs.map((run) => [run.id, run.name]) }),
  );
}

function open(text) {
  const ids = idsOf(text);
  if (ids.join() === shown.ids.join()) return false;
  Object.assign(shown, { ids, stamp: "", data: null });
  chart.forget();
  answers.forget();
  showError(null);
  part("body").hidden = true; // until there is something to show
  root.hidden = !ids.length;
  read();
  return Boolean(ids.length);
}

document.addEventListener("studio-compare", ({ detail }) => {
  open(detail);
  if (detail)
    setTimeout(() => {
      element.scrollIntoView({ block: "start", behavior: "smooth" });
      root.querySelector("h3").focus({ preventScroll: true });
    }, 50);
});
addEventListener("popstate", () => open(inAddress()));
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) read();
});

tool("close").addEventListener("click", () =>
  document.dispatchEvent(new CustomEvent("studio-compare", { detail: "" })),
);
tool("differences").addEventListener("change", () =>
  showSettings(part("settings"), part("settings-note"), shown.data, tool("differences").checked),
);
tool("csv").addEventListener("click", async () => {
  const found = await ask("csv");
  if (found.csv) saveFile("comparison.csv", found.csv, "text/csv");
  else if (found.error) showError(found.error);
});
tool("link").addEventListener("click", async () => {
  const link = new URL(location.pathname, location.href),
    button = tool("link");
  link.search = `?compare=${shown.ids.join(",")}&tab=runs`;
  try {
    await navigator.clipboard.writeText(link.href);
    button.textContent = "Copied";
  } catch {
    button.textContent = "The browser does not allow copying";
  }
  setTimeout(() => (button.textContent = "Copy link"), 2000);
});
open(inAddress());
