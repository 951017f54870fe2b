// One row and the unsaved changes. Fires `keep` {row, cells}, `drop` {row}, `restore` {row}, and `save` or `undo` for all.
// In scope from gr.HTML: element, trigger.
element.addEventListener("input", (event) => {
  const box = event.target.closest("textarea[data-column]");
  if (!box) return;
  const form = box.closest("[data-edit]"),
    boxes = [...form.querySelectorAll("textarea[data-column]")];
  form.querySelector("[data-keep]").disabled = boxes.every((one) => one.value === one.defaultValue);
});
element.addEventListener("click", (event) => {
  const at = (name) => event.target.closest(`[data-${name}]`);
  const row = +(at("edit")?.dataset.edit ?? 0);
  // while the card of a row that was just chosen is on its way, the one before it changes nothing
  const chosen = document.querySelector("#data-preview tr.chosen")?.dataset.pick;
  if (row && chosen && +chosen !== row) return;
  if (at("keep")) {
    const cells = {};
    for (const box of at("edit").querySelectorAll("textarea[data-column]"))
      if (box.value !== box.defaultValue) cells[box.dataset.column] = box.value;
    trigger("keep", { row, cells });
  } else if (at("drop")) trigger("drop", { row });
  else if (at("restore")) trigger("restore", { row });
  else if (at("save")) {
    at("save").disabled = true;
    trigger("save", {});
  } else if (at("undo")) trigger("undo", {});
});
