// The log of a run: follows its end unless one has scrolled up, and can be copied and downloaded.

const SHOWN_LINES = 300;

function makeRunLog(root) {
  const box = root.querySelector('[data-live="log"]'),
    card = root.querySelector("#run-log"),
    copy = root.querySelector('[data-tool="copy-log"]'),
    save = root.querySelector('[data-tool="save-log"]');
  const log = { at: 0, text: "", follows: true, run: "" };
  const toEnd = () => {
    if (log.follows) box.scrollTop = box.scrollHeight;
  };
  const plain = (text) =>
    text
      .replace(/\x1b\[[0-9;]*[A-Za-z]/g, "")
      .split("\n")
      .map((line) => line.replace(/\r+$/, "").replace(/^.*\r/, ""));

  box.addEventListener("scroll", () => {
    if (box.clientHeight) log.follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  });
  // shown again after another tab, or unfolded: what came meanwhile is below
  new ResizeObserver(toEnd).observe(box);

  copy.addEventListener("click", async () => {
    const done = await copyText(plain(log.text).join("\n"));
    copy.textContent = done ? "Copied" : "The browser does not allow copying";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  });
  save.addEventListener("click", () =>
    saveFile(`${log.run || "run"}.log`, plain(log.text).join("\n"), "text/plain"),
  );

  log.isOpen = () => card.open;
  log.forget = (run) => {
    Object.assign(log, { at: 0, text: "", follows: true, run });
    box.textContent = run ? "" : "The log of the run appears here.";
    copy.hidden = save.hidden = true;
  };
  log.take = (answer) => {
    if (answer.log === undefined) return;
    log.text = (answer.log_fresh ? "" : log.text) + answer.log;
    log.at = answer.log_at;
    box.textContent = plain(log.text).slice(-SHOWN_LINES).join("\n");
    copy.hidden = save.hidden = !log.text;
    toEnd();
  };
  return log;
}

// Copies a text; without the clipboard (a page without https) by a selection. Whether it worked.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
