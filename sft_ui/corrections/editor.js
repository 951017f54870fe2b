// The dialog that corrects an answer: named for a screen reader, opened at its text, left by Escape.
// In scope: from gr.HTML element.

const box = () => element.closest("#correction");
const opened = () => {
  const dialog = box();
  if (!dialog || !element.querySelector("h3")) return;
  dialog.setAttribute("role", "dialog");
  dialog.setAttribute("aria-modal", "true");
  dialog.setAttribute("aria-labelledby", "correction-title");
  requestAnimationFrame(() => dialog.querySelector("#correction-answer textarea")?.focus());
};
document.addEventListener("keydown", (event) => {
  const dialog = event.key === "Escape" && document.querySelector("#correction");
  if (dialog && dialog.offsetParent !== undefined && dialog.getClientRects().length)
    dialog.querySelector("#correction-cancel")?.click();
});
new MutationObserver(opened).observe(element, { childList: true, subtree: true });
opened();
