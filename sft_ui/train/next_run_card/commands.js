// Shows the command line and the Python of the next run, and copies what is shown.
// In scope from gr.HTML: element, props, watch. Texts are set with textContent, never as markup.

const copy = element.querySelector("[data-copy]");
const tabs = [...element.querySelectorAll("[data-shows]")];
const texts = [...element.querySelectorAll("[data-text]")];
const shown = () => texts.find((text) => !text.hidden);

function update() {
  const said = props.value ? JSON.parse(props.value) : {};
  element.querySelector("details").hidden = !props.value;
  for (const text of texts) text.textContent = said[text.dataset.text] ?? "";
}

function choose(name) {
  for (const tab of tabs) tab.setAttribute("aria-pressed", tab.dataset.shows === name);
  for (const text of texts) text.hidden = text.dataset.text !== name;
}

// without a secure connection there is no clipboard: the text is marked and copied as by hand
function byHand(text) {
  const range = document.createRange();
  range.selectNodeContents(text);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
  return document.execCommand("copy");
}

async function copyShown() {
  let done = false;
  try {
    await navigator.clipboard.writeText(shown().textContent);
    done = true;
  } catch (refused) {
    done = byHand(shown());
  }
  copy.textContent = done ? "Copied" : "Press Ctrl+C";
  setTimeout(() => {
    copy.textContent = "Copy";
  }, 2000);
}

for (const tab of tabs) tab.addEventListener("click", () => choose(tab.dataset.shows));
copy.addEventListener("click", copyShown);
watch("value", update);
update();
