// Asking for an evaluation: its options, how far it is, its error. In scope: made. `ask` calls the server.

const ASK_AGAIN_MS = 1000;

function makeAsking(root, ask, done) {
  const part = (name) => root.querySelector(`[data-ask="${name}"]`),
    button = root.querySelector("#evaluate-run"),
    bar = root.querySelector(".asking-bar");
  const known = { run: "", timer: 0, busy: false };

  function fill(select, choices) {
    const before = select.value;
    select.replaceChildren(
      ...choices.map(({ value, words }) => {
        const option = made("option", "", words);
        option.value = value;
        return option;
      }),
    );
    if (choices.some((one) => one.value === before)) select.value = before;
  }

  function showError(error) {
    part("error").hidden = !error;
    if (!error) return;
    const texts = [error.what, error.where, error.fix];
    texts.forEach((text, index) => (part("error").children[index].textContent = text ?? ""));
  }

  function showProgress(now) {
    known.busy = Boolean(now && !now.over);
    part("progress").hidden = part("stop").hidden = !known.busy;
    button.disabled = known.busy;
    part("stop").disabled = Boolean(now?.stopping);
    if (!known.busy) return;
    part("words").textContent = now.words;
    part("left").textContent = now.left;
    const percent = Math.floor((now.share ?? 0) * 100);
    bar.classList.toggle("busy", now.share === null);
    bar.style.setProperty("--share", `${percent}%`);
    bar.setAttribute("aria-valuenow", percent);
    bar.setAttribute("aria-valuetext", now.words);
  }

  // `wasBusy`: it was seen under way here, so its end is news.
  function take(answer, wasBusy) {
    if (answer.error) return showError(answer.error);
    const now = answer.under_way;
    showProgress(now);
    clearTimeout(known.timer);
    if (known.busy) known.timer = setTimeout(look, ASK_AGAIN_MS);
    else if (wasBusy) {
      showError(now?.error);
      if (now?.done) done(now.done);
    }
  }

  async function look() {
    const run = known.run;
    if (!run || !root.isConnected) return;
    const busy = known.busy,
      answer = await ask("evaluation_under_way", {});
    if (run === known.run) take(answer, busy);
  }

  button.addEventListener("click", async () => {
    showError(null);
    button.disabled = true;
    const measures = [...part("measures").querySelectorAll("input:checked")];
    const answer = await ask("evaluate_run", {
      data: part("data").value,
      checkpoint: part("checkpoint").value,
      rows: part("rows").value,
      measures: measures.map((one) => one.value),
    });
    button.disabled = false;
    take(answer, true);
  });
  part("stop").addEventListener("click", async () => {
    part("stop").disabled = true;
    take(await ask("stop_evaluation", {}), true);
  });

  return function show(run, choices, isShown, several) {
    const other = run !== known.run;
    known.run = run;
    root.querySelector(".hero-tools").hidden = !choices.can && !several;
    root.querySelector(".evaluate").hidden = part("options").hidden = !choices.can;
    button.textContent = isShown ? "Evaluate again" : "Evaluate this run";
    part("note").textContent = choices.note;
    part("note").hidden = !choices.note;
    fill(part("data"), choices.data);
    fill(part("checkpoint"), choices.checkpoints);
    part("rows").max = choices.most;
    if (!other) return;
    part("rows").value = choices.rows;
    showError(null);
    showProgress(null);
    const ticks = choices.measures.map(({ value, words, help }) => {
      const label = made("label", "tick"),
        box = made("input");
      Object.assign(box, { type: "checkbox", value });
      label.title = help;
      label.append(box, ` ${words}`);
      return label;
    });
    part("measures").replaceChildren(part("measures").querySelector("legend"), ...ticks);
    look();
  };
}
