// A question of the blind test: what was asked, both answers, the votes. In scope: made, fold, drawnAnswer, lines.
// `ask(name, given)` calls the server for the open test; `show(answer)` draws what it says.

const LOOK_MS = 400,
  SETTLE_MS = 400; // a double click must not vote on the next question
const CHOICES = { "blind-left": "left", "blind-right": "right", "blind-tie": "tie" };
const KEYS = { 1: "left", 2: "right", 0: "tie" };

function makeQuestion(root, ask, show, corrected) {
  const part = (name) => root.querySelector(`[data-question="${name}"]`),
    bar = root.querySelector(".blind-bar"),
    votes = [...root.querySelectorAll(".vote")],
    undo = root.querySelector("#blind-undo");
  const known = { at: null, ready: false, busy: false, drawnAt: 0, timer: 0, place: "" };

  function enable() {
    for (const one of votes) one.disabled = !known.ready || known.busy;
    part("skip").disabled = known.busy || known.at === null;
  }

  function drawAsked(view) {
    const before = part("before"),
      count = view.before.length;
    before.hidden = !count;
    before.querySelector("summary").textContent =
      count === 1 ? "1 message before" : `${count} messages before`;
    before
      .querySelector("div")
      .replaceChildren(
        ...view.before.flatMap((one) => [
          made("span", "who", one.role),
          made("div", "blind-text", one.text),
        ]),
      );
    part("role").textContent = view.asked.role + (view.row ? ` · row ${view.row}` : "");
    part("prompt").textContent = view.asked.text;
    part("images").replaceChildren(
      ...view.images.map((address, index) =>
        Object.assign(made("img"), { src: address, alt: `Image ${index + 1}`, loading: "lazy" }),
      ),
    );
    part("expected").hidden = !view.expected;
    part("expected").querySelector("div").textContent = view.expected;
  }

  function drawAnswers(view) {
    part("answers").hidden = !view.ready;
    if (!view.ready) return;
    for (const place of ["left", "right"])
      root
        .querySelector(`[data-place="${place}"] [data-answer="body"]`)
        .replaceChildren(...drawnAnswer(view[place]));
  }

  function drawProgress(view) {
    const facts = [];
    if (view.same)
      facts.push(
        `${view.same} had the same answer twice and ${view.same === 1 ? "counts as a tie" : "count as ties"}`,
      );
    if (view.left_out) facts.push(`${view.left_out} left out`);
    part("number").textContent = `${view.at + 1} of ${view.total}`;
    part("facts").textContent = facts.join(" · ");
    const share = Math.floor((view.done / view.total) * 100);
    bar.style.setProperty("--share", `${share}%`);
    bar.setAttribute("aria-valuenow", share);
    undo.disabled = !view.voted;
  }

  function draw(view) {
    clearTimeout(known.timer);
    const isNew = known.at !== view.at || known.ready !== view.ready;
    if (known.at !== view.at) {
      for (const one of root.querySelectorAll(".blind-asked details")) one.open = false;
      closeCorrection();
      drawAsked(view);
      root.closest("dialog").scrollTop = 0;
    }
    Object.assign(known, { view, at: view.at, ready: view.ready, busy: false });
    if (isNew) {
      known.drawnAt = performance.now();
      drawAnswers(view);
      part("said").textContent = view.ready ? `Question ${view.at + 1} of ${view.total}` : "";
    }
    drawProgress(view);
    if (!root.closest("dialog").contains(document.activeElement)) part("number").focus();
    lines(part("notes"), view.notes);
    const failed = Boolean(view.error);
    part("failed").hidden = !failed;
    part("waiting").hidden = view.ready || failed;
    part("waiting").textContent = view.words ? `${view.words}…` : "Both models are answering…";
    enable();
    if (!view.ready && !failed) known.timer = setTimeout(look, LOOK_MS);
  }

  async function look() {
    const at = known.at;
    if (at === null || root.hidden || !root.closest("dialog").open) return;
    const view = await ask("blind_question", { at });
    if (known.at === at && !root.hidden) show(view);
  }

  async function send(name, given) {
    if (known.busy) return;
    known.busy = true;
    enable();
    const answer = await ask(name, { at: known.at, ...given });
    known.busy = false;
    enable();
    show(answer);
  }

  function vote(choice) {
    if (!known.ready || performance.now() - known.drawnAt < SETTLE_MS) return;
    send("blind_vote", { choice });
  }

  function closeCorrection() {
    part("correction").hidden = true;
    part("kept").textContent = "";
  }

  const right = (name) => root.querySelector(`[data-right="${name}"]`);

  function openCorrection(place) {
    const answer = known.view[place];
    known.place = place;
    part("kept").textContent = "";
    part("correction").hidden = false;
    right("answer").value = answer.content;
    right("calls").value = answer.calls;
    right("reasoning").value = answer.reasoning;
    right("calls-field").hidden = !answer.calls && !known.view.tools;
    right("reasoning-field").hidden = !answer.reasoning;
    right("answer").focus();
  }

  async function keepCorrection(event) {
    event.preventDefault();
    const given = Object.fromEntries(
      ["answer", "calls", "reasoning"].map((name) => [name, right(name).value]),
    );
    const answer = await ask("blind_correct", { at: known.at, place: known.place, ...given });
    show({ error: answer.error });
    if (answer.error) return;
    closeCorrection();
    part("kept").textContent = answer.said;
    corrected();
  }

  for (const one of votes) one.addEventListener("click", () => vote(CHOICES[one.id]));
  undo.addEventListener("click", () => send("blind_take_back", {}));
  for (const name of ["skip", "skip-failed"])
    part(name).addEventListener("click", () => send("blind_skip", {}));
  part("end").addEventListener("click", () => send("blind_result", { reveal: true }));
  part("again").addEventListener("click", () => send("blind_question", { again: true }));
  part("no-correction").addEventListener("click", closeCorrection);
  part("correction").addEventListener("submit", keepCorrection);
  for (const one of root.querySelectorAll("[data-correct]"))
    one.addEventListener("click", () => openCorrection(one.dataset.correct));

  // Keys vote while the question is in view and nothing is being written.
  function pressed(event) {
    const writes = event.target.closest?.("input, textarea, select");
    if (root.hidden || event.repeat || writes || event.ctrlKey || event.metaKey || event.altKey)
      return;
    if (event.key in KEYS) vote(KEYS[event.key]);
    else if (event.key.toLowerCase() === "u" && !undo.disabled) undo.click();
    else return;
    event.preventDefault();
  }

  function forget() {
    clearTimeout(known.timer);
    Object.assign(known, { at: null, ready: false, busy: false });
  }

  return { draw, pressed, forget };
}
