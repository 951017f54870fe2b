// The report and its problems. Fires `rows` {problem}, `jump` {row}, `open` {id} (a version),
// `clean` {fixes} and `chosen` {} (train on the chosen answers of preference data).
// In scope from gr.HTML: element, watch, trigger.
const count = () => {
  const chosen = [...element.querySelectorAll("select[data-fix]")].filter((one) => one.value);
  const button = element.querySelector("[data-clean]");
  if (!button) return;
  button.disabled = !chosen.length;
  const fixes = chosen.length === 1 ? "1 fix" : `${chosen.length} fixes`;
  button.textContent = chosen.length
    ? `Create a cleaned version with ${fixes}`
    : "Create a cleaned version";
};
element.addEventListener("change", (event) => {
  if (event.target.closest("select[data-fix]")) count();
});
element.addEventListener("click", (event) => {
  const at = (name) => event.target.closest(`[data-${name}]`);
  if (at("problem")) trigger("rows", { problem: +at("problem").dataset.problem });
  else if (at("jump")) trigger("jump", { row: +at("jump").dataset.jump });
  else if (at("open")) trigger("open", { id: at("open").dataset.open });
  else if (at("chosen")) {
    at("chosen").disabled = true;
    trigger("chosen", {});
  } else if (at("clean")) {
    const fixes = {};
    for (const one of element.querySelectorAll("select[data-fix]"))
      if (one.value) fixes[one.dataset.fix] = one.value;
    at("clean").disabled = true;
    trigger("clean", { fixes });
  }
});
watch("value", count);
count();
