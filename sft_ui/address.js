// The address of the page names the open tab and the shown run, so that Back, a reload and a copied link work.
// In scope: from gr.HTML element and trigger. The page tells of changes by the events studio-tab, studio-run
// and, once it has loaded, studio-ready.

const TOGETHER_MS = 700; // changes of one press are one entry in the history
let ready = false,
  pushed = 0;

function put(name, value) {
  const address = new URL(location.href),
    known = address.searchParams;
  if ((known.get(name) ?? "") === value) return;
  if (value) known.set(name, value);
  else known.delete(name);
  const tab = known.get("tab");
  known.delete("tab");
  if (tab) known.set("tab", tab);
  if (ready && Date.now() - pushed > TOGETHER_MS) {
    history.pushState(null, "", address);
    pushed = Date.now();
  } else history.replaceState(null, "", address);
}

document.addEventListener("studio-tab", (event) => put("tab", event.detail));
document.addEventListener("studio-run", (event) => put("run", event.detail));
document.addEventListener("studio-ready", () => setTimeout(() => (ready = true), TOGETHER_MS));
addEventListener("popstate", () => {
  const known = new URL(location.href).searchParams;
  trigger("went", { tab: known.get("tab") ?? "data", run: known.get("run") ?? "" });
});
