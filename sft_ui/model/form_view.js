// Which settings the form shows: the simple ones and those that are set, or all; and a search in them.
// The choice is kept in the browser. In scope from gr.HTML: element. Texts are never set as markup.

const KEPT = "form-view";
const MOST_FOUND = 8;
const form = element.closest("#recipe-form");
const choices = [...element.querySelectorAll("[data-view]")];
const list = element.querySelector("ul");
const box = element.querySelector("input");
const { settings } = JSON.parse(element.querySelector("[data-settings]").dataset.settings);
const rules = document.head.appendChild(document.createElement("style"));
let shown = [];

function kept() {
  try {
    return localStorage.getItem(KEPT);
  } catch {
    return null; // the browser keeps nothing
  }
}

function keep(view) {
  try {
    localStorage.setItem(KEPT, view);
  } catch {
    // as above: the choice lasts until the page is left
  }
}

function show(view) {
  form.dataset.view = view;
  for (const one of choices) {
    const chosen = one.dataset.view === view;
    one.setAttribute("aria-checked", chosen);
    one.tabIndex = chosen ? 0 : -1;
  }
}

// Expert settings that are set stay in the simple view. Rules, not classes, because the page's
// framework makes the fields of a section only when it is first opened.
function showSet() {
  const set = document.querySelector("#form-set [data-set]");
  const names = [...(set ? JSON.parse(set.dataset.set) : []), ...shown];
  const sections = names.map((name) => settings.find((one) => one.name === name)?.section);
  const except = (ids) => [...new Set(ids)].map((id) => `:not(#${id})`).join("");
  const simple = '#recipe-form[data-view="simple"] ';
  rules.textContent =
    `${simple}.expert-setting${except(names.map((name) => `field-${name}`))},` +
    `${simple}.expert-section${except(sections.filter(Boolean))}{display:none !important}`;
}

function choose(view) {
  shown = [];
  keep(view);
  show(view);
  showSet();
}

function goTo(found, tries = 20) {
  const head = document.querySelector(`#${found.section} > button.label-wrap`);
  if (head && !head.classList.contains("open")) head.click();
  const field = document.getElementById(`field-${found.name}`);
  if (!field?.offsetParent) {
    if (tries) setTimeout(goTo, 100, found, tries - 1);
    return;
  }
  field.scrollIntoView({ block: "center" });
  field.querySelector("input, textarea")?.focus({ preventScroll: true });
}

function open(found) {
  shown.push(found.name);
  showSet();
  clear();
  goTo(found);
}

function clear() {
  box.value = "";
  list.hidden = true;
  list.replaceChildren();
}

function made(tag, text, className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

function entry(found) {
  const item = document.createElement("li");
  const button = Object.assign(made("button", ""), { type: "button" });
  button.append(made("b", found.label), made("span", found.help, "quiet"));
  button.addEventListener("click", () => open(found));
  item.append(button);
  return item;
}

function find() {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (one) => `${one.label} ${one.name} ${one.help}`.toLowerCase();
  const inLabel = (one) => words.every((word) => one.label.toLowerCase().includes(word));
  const found = settings.filter((one) => words.every((word) => has(one).includes(word)));
  found.sort((a, b) => inLabel(b) - inLabel(a));
  const items = found.slice(0, MOST_FOUND).map(entry);
  if (!items.length) items.push(made("li", "No setting has these words.", "quiet"));
  list.replaceChildren(...items);
  list.hidden = !words.length;
}

element.addEventListener("click", (event) => {
  const view = event.target.closest("[data-view]")?.dataset.view;
  if (view) choose(view);
});
element.addEventListener("keydown", (event) => {
  if (event.key === "Escape") clear();
  if (!event.target.dataset.view || !event.key.startsWith("Arrow")) return;
  event.preventDefault();
  const other = choices.find((one) => one !== event.target);
  choose(other.dataset.view);
  other.focus();
});
box.addEventListener("input", find);
box.addEventListener("search", () => box.value || clear());
form.addEventListener("click", (event) => {
  if (event.target.closest("[data-show-all]")) choose("expert");
});
new MutationObserver(showSet).observe(document.getElementById("form-set") ?? form, {
  childList: true,
  subtree: true,
  attributes: true,
});
show(kept() === "expert" ? "expert" : "simple");
showSet();
