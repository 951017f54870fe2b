// The table of runs asks for its new content while it is seen and a run in it is under way.
// In scope: from gr.HTML element and trigger. Gradio writes into the same nodes: focus and place stay.

const EVERY_MS = 4000;

setInterval(() => {
  const seen = !document.hidden && element.isConnected && element.offsetParent;
  if (seen && element.querySelector("[data-live]")) trigger("stale");
}, EVERY_MS);
