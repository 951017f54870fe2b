// The steps above the tabs: marks the one whose tab is open, and asks for the tab of a pressed one.
// In scope: from gr.HTML element and trigger. The page tells of an opened tab by the event studio-tab.

// Gradio writes a new value into the same nodes, and so takes the marks away: they are set again.
const mark = () => {
  for (const button of element.querySelectorAll("[data-step]")) {
    const isOpen = button.dataset.step === (document.body.dataset.tab ?? "data");
    button.classList.toggle("current", isOpen);
    if (isOpen === button.hasAttribute("aria-current")) continue;
    if (isOpen) button.setAttribute("aria-current", "step");
    else button.removeAttribute("aria-current");
  }
};
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-step]");
  if (button) trigger("go", { tab: button.dataset.step });
});
document.addEventListener("studio-tab", mark);
new MutationObserver(mark).observe(element, {
  childList: true,
  subtree: true,
  attributeFilter: ["class", "aria-current"],
});
mark();
