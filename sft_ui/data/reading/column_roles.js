// The role picker in each column header. Choosing a role clears it from any other column.
// Fires `roles` {role: column}, debounced. In scope from gr.HTML: element, trigger.
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
