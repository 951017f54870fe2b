// The buttons under the turns of a conversation: copies a text here, asks the page for the rest.
// In scope: from gr.HTML element and trigger.

const ASKED = ["edit", "retry", "correct"]; // of the page
const copied = async (text) => {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const box = document.createElement("textarea"); // without https a browser has no clipboard
  box.value = text;
  document.body.append(box);
  box.select();
  document.execCommand("copy");
  box.remove();
};
const textOf = (turn) =>
  [...turn.querySelectorAll(":scope > .spoken, :scope > .call pre")]
    .map((one) => one.textContent)
    .join("\n");
// The panel stays at its end while an answer grows, unless the person has scrolled up.
const panel = element.closest("#chat-base, #chat-tuned");
let follows = true;
panel?.addEventListener("scroll", () => {
  follows = panel.scrollHeight - panel.scrollTop - panel.clientHeight < 40;
});
new MutationObserver(() => {
  if (panel && follows) panel.scrollTop = panel.scrollHeight;
}).observe(element, { childList: true, subtree: true, characterData: true });
element.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-act]");
  if (!button) return;
  const { act, at } = button.dataset;
  if (ASKED.includes(act)) {
    const side = button.closest("[data-side]").dataset.side;
    trigger(act, { side, at: Number(at) });
    return;
  }
  await copied(textOf(button.closest(".below").previousElementSibling));
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
});
