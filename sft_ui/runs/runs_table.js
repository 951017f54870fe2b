// The table of runs: picks a row, and asks for a new table while a run in it is under way.
// In scope: from gr.HTML element and trigger. A new table keeps the focus and the place.

const EVERY_MS = 4000;
const kept = { id: null, top: 0, left: 0 };
const place = () => element.querySelector(".table-scroll");

setInterval(() => {
  if (document.hidden || !element.isConnected || !element.offsetParent) return;
  if (!element.querySelector("[data-live]")) return;
  kept.id = document.activeElement?.closest?.("#runs-table button.pick")?.dataset.pick ?? null;
  [kept.top, kept.left] = [place()?.scrollTop ?? 0, place()?.scrollLeft ?? 0];
  trigger("stale");
}, EVERY_MS);

new MutationObserver(() => {
  const box = place();
  if (!box || !(kept.id || kept.top || kept.left)) return;
  [box.scrollTop, box.scrollLeft] = [kept.top, kept.left];
  if (kept.id && document.activeElement === document.body)
    [...element.querySelectorAll("button.pick")]
      .find((one) => one.dataset.pick === kept.id)
      ?.focus({ preventScroll: true });
}).observe(element, { childList: true, subtree: true });
