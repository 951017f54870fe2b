// The cards beside the form: what was clicked becomes an event, and wrong or changed fields are marked.
// In scope from gr.HTML: element, trigger. Texts are set with textContent, never as markup.

const host = element.closest("#estimate") ?? element;
const WAIT_MS = 1500;
const marked = { wrong: {}, changed: [], waits: false };

function say(field, text) {
  let line = field.querySelector(":scope > .field-error");
  if (line?.textContent === text) return;
  if (!text) {
    line?.remove();
    return;
  }
  if (!line) {
    line = Object.assign(document.createElement("p"), { className: "field-error" });
    line.setAttribute("role", "alert");
    field.append(line);
  }
  line.textContent = text;
}

function markFields() {
  for (const field of document.querySelectorAll('#recipe-form [id^="field-"], #model-choice')) {
    const name = field.id === "model-choice" ? "base_model" : field.id.slice("field-".length);
    const text = marked.wrong[name] ?? "";
    say(field, text);
    // an attribute, because the page's framework writes the classes of a field anew
    field.dataset.mark = text ? "wrong" : marked.changed.includes(name) ? "changed" : "";
    for (const input of field.querySelectorAll("input, textarea"))
      if (text) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
  }
}

function update() {
  const fits = element.querySelector("[data-fits]")?.dataset.fits ?? "unknown";
  if (host.dataset.fits !== fits) host.dataset.fits = fits; // setting it is a change by itself
  const box = element.querySelector("[data-marks]");
  Object.assign(marked, box ? JSON.parse(box.dataset.marks) : { waits: false });
  markFields();
}

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const { field, back, act } = button.dataset;
  if (field) toField(button);
  else if (back) trigger("back", { field: back });
  else if (act === "reset") trigger("reset", {});
  else if (act === "fix") {
    button.disabled = true;
    trigger("fix", {});
  }
});

// where only words change, the page's framework keeps the elements and writes their attributes
new MutationObserver(update).observe(element, {
  childList: true,
  subtree: true,
  attributeFilter: ["data-marks", "data-fits"],
});
const form = document.getElementById("recipe-form");
if (form) new MutationObserver(markFields).observe(form, { childList: true, subtree: true });
// while tokens are counted elsewhere, ask again, so that the figures become exact by themselves
const timer = setInterval(() => {
  if (!element.isConnected) clearInterval(timer);
  else if (marked.waits && !document.hidden && element.offsetParent) trigger("recheck", {});
}, WAIT_MS);
update();
