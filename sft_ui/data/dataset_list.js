// The stored datasets. Fires `open` {id}, `remove` {id} (after a second click) and `mix` {weights: {id: weight}, name}.
// In scope from gr.HTML: element, watch, trigger.
const weights = () =>
  Object.fromEntries(
    [...element.querySelectorAll("input[data-weight]")]
      .filter((one) => one.value && +one.value > 0)
      .map((one) => [one.dataset.weight, +one.value]),
  );
const showMix = () => {
  const button = element.querySelector("[data-mix]"),
    all = Object.values(weights());
  if (!button) return;
  button.disabled = all.length < 2;
  button.textContent =
    all.length < 2 ? "To mix, give two datasets a weight" : `Mix ${all.length} datasets`;
  const sum = all.reduce((a, b) => a + b, 0);
  for (const input of element.querySelectorAll("input[data-weight]")) {
    const share =
      +input.value > 0 && all.length > 1 ? `${Math.round((100 * input.value) / sum)}%` : "";
    input.nextElementSibling.textContent = share;
  }
};
element.addEventListener("input", (event) => {
  if (event.target.closest("[data-weight]")) showMix();
});
element.addEventListener("click", (event) => {
  const at = (name) => event.target.closest(`[data-${name}]`);
  if (at("open")) trigger("open", { id: at("open").dataset.open });
  else if (at("remove")) {
    const button = at("remove");
    if (button.classList.contains("sure")) {
      button.disabled = true;
      trigger("remove", { id: button.dataset.remove });
      return;
    }
    const before = [...button.childNodes];
    button.classList.add("sure");
    button.textContent = "Confirm delete";
    setTimeout(() => {
      button.classList.remove("sure");
      button.replaceChildren(...before);
    }, 5000);
  } else if (at("mix"))
    trigger("mix", { weights: weights(), name: element.querySelector("[data-name]").value });
});
watch("value", showMix);
showMix();
