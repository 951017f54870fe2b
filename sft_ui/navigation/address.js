// The address of the page names the open tab, the shown run and the compared runs, so that Back, a reload and a
// copied link work. In scope: from gr.HTML element and trigger. The page tells of changes by the events studio-tab
// (its name), studio-run ({run}, or {run, tab}), studio-compare (ids with commas) and, when it has loaded, studio-ready.

const NAMES = ["compare", "run", "tab"];
const SETTLES_MS = 300; // after loading, until the tab that it chose has opened
let ready = false,
  early = {}; // what changed while loading, which still reads the address

// Each change after loading is an entry of the history; what the address says already is none.
function put(changes) {
  if (!ready) {
    Object.assign(early, changes);
    return;
  }
  write(changes, "pushState");
}

function write(changes, how) {
  const address = new URL(location.href),
    known = address.searchParams,
    now = Object.fromEntries(NAMES.map((name) => [name, known.get(name) ?? ""])),
    then = { ...now, ...changes };
  if (NAMES.every((name) => then[name] === now[name])) return;
  for (const [name, value] of Object.entries(then)) {
    known.delete(name);
    if (value) known.append(name, value);
  }
  address.search = address.search.replaceAll("%2C", ",");
  history[how](null, "", address);
}

function settle() {
  ready = true;
  write(early, "replaceState");
}

document.addEventListener("studio-tab", (event) => put({ tab: event.detail }));
document.addEventListener("studio-run", (event) => put(event.detail));
document.addEventListener("studio-compare", (event) =>
  put({ compare: event.detail, ...(event.detail && { tab: "runs" }) }),
);
document.addEventListener("studio-ready", () => setTimeout(settle, SETTLES_MS));
addEventListener("popstate", () => {
  const known = new URL(location.href).searchParams;
  trigger("went", { tab: known.get("tab") ?? "data", run: known.get("run") ?? "" });
});
