// Leads from a button with data-field to the field of that setting: its tab, its section, its input.

function openTab(name) {
  const tabs = [...document.querySelectorAll("[role=tab]")];
  tabs.find((tab) => tab.textContent.trim() === name)?.click();
}

function openSection(name) {
  const heads = [...document.querySelectorAll("#recipe-form button.label-wrap")];
  const head = heads.find((one) => one.textContent.trim().startsWith(name));
  if (name && head && !head.classList.contains("open")) head.click();
}

function fieldOf(name) {
  return document.getElementById(name === "base_model" ? "model-choice" : `field-${name}`);
}

function showField(name, section, tries = 20) {
  const field = fieldOf(name);
  if (!field?.offsetParent) {
    openSection(section);
    if (tries) setTimeout(showField, 100, name, section, tries - 1);
    return;
  }
  field.scrollIntoView({ block: "center", behavior: "smooth" });
  field.querySelector("input, textarea")?.focus({ preventScroll: true });
}

function toField(button) {
  openTab("Model");
  showField(button.dataset.field, button.dataset.section ?? "");
}
