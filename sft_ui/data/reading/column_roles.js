// The picker in each column's header. A role belongs to one column: choosing it frees it elsewhere.
// Fires `roles` with all choices, once for choices in quick succession. In scope from gr.HTML: element, trigger.
const QUICK_MS = 150;
let waiting = 0;
element.addEventListener("change", (event) => {
  const chosen = event.target.closest("select[data-column]");
  if (!chosen) return;
  const pickers = [...element.querySelectorAll("select[data-column]")];
  for (const other of pickers)
    if (other !== chosen && other.value === chosen.value) other.value = "";
  for (const one of pickers) one.classList.toggle("used", !!one.value);
  const roles = {};
  for (const one of pickers) if (one.value) roles[one.value] = one.dataset.column;
  clearTimeout(waiting);
  waiting = setTimeout(() => trigger("roles", { roles }), QUICK_MS);
});
