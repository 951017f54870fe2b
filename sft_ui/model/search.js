// The lists under the box of the model. Fires `find` and `ask` {words} as one types, and `choose` {id}.
// In scope from gr.HTML: element, watch, trigger.
const events = ["find", "ask", "choose"]; // also tells Gradio their names
const LOCAL_MS = 120,
  HUB_MS = 450;
const box = element.closest("#model-search");
const input = box.querySelector("#model-choice input");
const panel = box.querySelector("#model-results");
let timers = [],
  active = "",
  before = "", // the text of the chosen model, while another one is looked for
  resetting = false;
const options = () => [...panel.querySelectorAll('[role="option"]')];
const isOpen = () => box.classList.contains("open");

const mark = (option) => {
  active = option ? option.id : "";
  for (const one of options()) one.setAttribute("aria-selected", one === option);
  if (option) {
    input.setAttribute("aria-activedescendant", option.id);
    option.scrollIntoView({ block: "nearest" });
  } else input.removeAttribute("aria-activedescendant");
};
const show = (open) => {
  box.classList.toggle("open", open);
  input.setAttribute("aria-expanded", open);
  setTimeout(() => mark(null)); // after the dropdown has named an option of its own list
};
const look = (words) => {
  timers.forEach(clearTimeout);
  timers = [
    setTimeout(() => trigger("find", { words }), LOCAL_MS),
    setTimeout(() => trigger("ask", { words }), HUB_MS),
  ];
};
// The dropdown takes the words in its box for a model when it is left, so they are taken back first.
const leave = () => {
  timers.forEach(clearTimeout);
  resetting = true;
  input.value = before;
  input.dispatchEvent(new Event("input", { bubbles: true }));
  resetting = false;
  input.blur();
};
const choose = (id) => {
  leave();
  trigger("choose", { id });
};
const open = () => {
  if (isOpen()) return;
  before = input.value;
  show(true);
  look(""); // the chosen model stands in the box: it is no search
};
const step = (by) => {
  const all = options();
  if (!all.length) return;
  const at = all.findIndex((one) => one.id === active);
  mark(all[at < 0 ? (by > 0 ? 0 : all.length - 1) : (at + by + all.length) % all.length]);
};

input.setAttribute("role", "combobox");
input.setAttribute("aria-autocomplete", "list");
input.setAttribute("aria-haspopup", "listbox");
input.setAttribute("aria-controls", "model-results");
panel.setAttribute("role", "listbox");
panel.setAttribute("aria-label", "Models");
input.addEventListener("focus", open);
input.addEventListener("click", open);
input.addEventListener("input", () => {
  if (resetting) return;
  show(true);
  look(input.value.trim());
});
// a press on an option must not take the focus away: the box would keep the words as a model
panel.addEventListener("pointerdown", (event) => event.preventDefault());
panel.addEventListener("mousedown", (event) => event.preventDefault());
panel.addEventListener("click", (event) => {
  const option = event.target.closest("[data-choose]");
  if (option) choose(option.dataset.choose);
});
input.addEventListener("blur", () => show(false));
// in the capture phase, before the dropdown moves through its own list
box.addEventListener(
  "keydown",
  (event) => {
    if (event.target !== input) return;
    const option = options().find((one) => one.id === active);
    if (!["ArrowDown", "ArrowUp", "Enter", "Escape"].includes(event.key)) return;
    event.preventDefault();
    event.stopPropagation();
    if (event.key === "Escape") leave();
    else if (event.key === "Enter") {
      if (option) choose(option.dataset.choose);
      else if (input.value === before) leave();
      else choose(input.value);
    } else {
      open();
      step(event.key === "ArrowDown" ? 1 : -1);
    }
  },
  true,
);
