// The pickers of prompt, answer and the other roles. One column has one role, and a prompt with an
// answer, a conversation and a full text exclude each other. Fires `roles` {role: column}.
// In scope from gr.HTML: element, trigger.
const KINDS = { prompt: "pair", input: "pair", history: "pair", messages: "chat", text: "text" };
element.addEventListener("change", (event) => {
  const chosen = event.target.closest("select[data-role]");
  if (!chosen) return;
  const root = chosen.closest("[data-columns]"),
    columns = JSON.parse(root.dataset.columns),
    kind = chosen.value && KINDS[chosen.dataset.role],
    roles = {};
  for (const one of root.querySelectorAll("select[data-role]")) {
    const other = KINDS[one.dataset.role];
    if (one !== chosen && one.value === chosen.value) one.value = "";
    if (kind && other && other !== kind) one.value = "";
    if (kind === "text" && one !== chosen) one.value = "";
    if (one.value) roles[one.dataset.role] = columns[+one.value];
  }
  trigger("roles", { roles });
});
