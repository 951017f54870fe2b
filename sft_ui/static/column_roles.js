// The picker in each column's header. A role belongs to one column: choosing it frees it elsewhere.
// Fires `roles` with all choices. In scope from gr.HTML: element, trigger.
element.addEventListener('change', event => {
  const chosen = event.target.closest('select[data-column]');
  if (!chosen) return;
  const pickers = [...element.querySelectorAll('select[data-column]')];
  for (const other of pickers) if (other !== chosen && other.value === chosen.value) other.value = '';
  for (const one of pickers) one.classList.toggle('used', !!one.value);
  const roles = {};
  for (const one of pickers) if (one.value) roles[one.value] = one.dataset.column;
  trigger('roles', { roles });
});
