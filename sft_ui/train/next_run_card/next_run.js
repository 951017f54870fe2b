// Leads from the card of the next run to the field that is wrong. In scope from gr.HTML: element.

element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-field]");
  if (button) toField(button);
});
