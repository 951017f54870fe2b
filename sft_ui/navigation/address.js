// The address of the page names the open tab and the shown run, so that Back, a reload and a copied link work.
// In scope: from gr.HTML element and trigger. The page tells of changes by the events studio-tab (its name)
// and studio-run ({run}, or {run, tab}) and, when it has loaded, studio-ready.

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
    now = { run: known.get("run") ?? "", tab: known.get("tab") ?? "" },
    then = { ...now, ...changes };
  if (then.run === now.run && then.tab === now.tab) return;
  for (const [name, value] of Object.entries(then)) {
    known.delete(name);
    if (value) known.append(name, value);
  }
  history[how](null, "", address);
}

function settle() {
  ready = true;
  write(early, "replaceState");
}

document.addEventListener("studio-tab", (event) => put({ tab: event.detail }));
document.addEventListener("studio-run", (event) => put(event.detail));
document.addEventListener("studio-ready", () => setTimeout(settle, SETTLES_MS));
addEventListener("popstate", () => {
  const known = new URL(location.href).searchParams;
  trigger("went", { tab: known.get("tab") ?? "data", run: known.get("run") ?? "" });
});
