// The dialog of the blind test: opens for a run or the test that the address names, and switches its views.
// In scope: makeQuestion, makeResult, makeJudge, made, and from gr.HTML element, server, trigger.
// Fires `correct` {run} when a corrected answer was kept.

const dialog = element.querySelector("dialog");
const field = (name) => dialog.querySelector(`[data-blind="${name}"]`);
const setting = (name) => dialog.querySelector(`[data-setup="${name}"]`);
const viewOf = (name) => dialog.querySelector(`[data-view="${name}"]`);
const now = { run: "", test: "", name: "" };

// The address of the page, with the open test or without.
function address(test, how) {
  const url = new URL(location.href);
  if ((url.searchParams.get("blind") ?? "") === test) return;
  url.searchParams.delete("blind");
  if (test) {
    url.searchParams.set("blind", test);
    url.searchParams.set("run", now.run);
  }
  history[how](null, "", url);
}

async function ask(name, given) {
  try {
    const answer = await server[name]({ run: now.run, test: now.test, ...given });
    if (answer) return answer;
  } catch {
    // said below
  }
  const fix = "Check that the app is running, then try again.";
  return { error: { what: "The app does not answer.", where: "", fix } };
}

function showError(error) {
  const box = field("error");
  box.hidden = !error;
  const texts = error ? [error.what, error.where, error.fix] : ["", "", ""];
  texts.forEach((text, index) => (box.children[index].textContent = text ?? ""));
  if (error) box.scrollIntoView({ block: "nearest" });
}

function see(name) {
  for (const one of dialog.querySelectorAll("[data-view]")) one.hidden = one.dataset.view !== name;
  if (name !== "question") question.forget();
}

// Draws an answer of the server: an error, a question or the result.
function show(answer) {
  showError(answer.error);
  if (!answer.view) return;
  if (answer.test !== now.test) {
    now.test = answer.test;
    address(now.test, "replaceState");
  }
  const before = viewOf(answer.view).hidden;
  see(answer.view);
  if (answer.view === "question") question.draw(answer);
  else {
    result.draw(answer);
    judge.draw(answer);
    if (before) {
      dialog.scrollTop = 0;
      result.focus();
      judge.allowed();
    }
  }
}

const question = makeQuestion(viewOf("question"), ask, show, () =>
  trigger("correct", { run: now.run }),
);
const result = makeResult(viewOf("result"), ask, show, () => setUp(now.run));
const judge = makeJudge(viewOf("result"), ask, show);

function listTests(tests) {
  setting("earlier").hidden = !tests.length;
  setting("earlier")
    .querySelector("ul")
    .replaceChildren(
      ...tests.map((one) => {
        const item = made("li"),
          button = Object.assign(made("button", "plain"), { type: "button" });
        button.textContent = one.over ? "See the result" : `Go on (${one.state})`;
        button.addEventListener("click", () => openTest(now.run, one.id));
        const when = new Date(one.created_at * 1000).toLocaleString("en", {
          dateStyle: "medium",
          timeStyle: "short",
        });
        item.append(button, made("span", "", one.words), made("span", "quiet", when));
        return item;
      }),
    );
}

function drawSetup(choices) {
  field("about").textContent = choices.name;
  setting("against").replaceChildren(
    ...choices.against.map(({ value, words }) =>
      Object.assign(made("option", "", words), { value }),
    ),
  );
  const rows = choices.held_out;
  setting("rows-words").textContent = rows
    ? `Held-out rows (there are ${rows})`
    : "Held-out rows (there are none)";
  setting("rows").value = Math.min(20, rows) || 1;
  const own = dialog.querySelector('[name="blind-source"][value="own"]');
  const held = dialog.querySelector('[name="blind-source"][value="rows"]');
  held.disabled = !rows && !choices.at_hand;
  (held.disabled ? own : held).checked = true;
  now.atHand = choices.at_hand;
  note();
  listTests(choices.tests);
  see("setup");
}

function note() {
  const own = dialog.querySelector('[name="blind-source"]:checked').value === "own";
  setting("rows-field").hidden = own;
  setting("own-field").hidden = !own;
  const instant = !own && !setting("against").value && now.atHand;
  setting("note").textContent = instant
    ? `The answers to ${now.atHand} rows are at hand from the evaluation, so it starts at once.`
    : "The models answer while you read; the first answers take a moment.";
}

function openDialog(run) {
  if (run !== now.run) now.run = run;
  question.forget();
  judge.reset();
  showError(null);
  if (!dialog.open) dialog.showModal();
}

async function setUp(run) {
  openDialog(run);
  now.test = "";
  address("", "replaceState");
  see("");
  const choices = await ask("blind_choices", {});
  if (choices.error) showError(choices.error);
  else drawSetup(choices);
}

async function openTest(run, test) {
  openDialog(run);
  now.test = test;
  address(test, "pushState");
  see("");
  const choices = await ask("blind_choices", {});
  if (!choices.error) field("about").textContent = choices.name;
  show(await ask("blind_question", {}));
}

viewOf("setup").addEventListener("change", note);
viewOf("setup").addEventListener("submit", async (event) => {
  event.preventDefault();
  const start = dialog.querySelector("#blind-start");
  start.disabled = true;
  const own = dialog.querySelector('[name="blind-source"]:checked').value === "own";
  const answer = await ask("blind_start", {
    against: setting("against").value,
    own,
    rows: setting("rows").value,
    prompts: setting("prompts").value,
  });
  start.disabled = false;
  show(answer);
});
field("close").addEventListener("click", () => dialog.close());
// the focus may lie on nothing, so the keys are heard everywhere
document.addEventListener("keydown", (event) => dialog.open && question.pressed(event));
dialog.addEventListener("close", () => {
  question.forget();
  judge.reset();
  now.test = "";
  address("", "pushState");
});
document.addEventListener("studio-blind", (event) => setUp(event.detail.run));

function fromAddress() {
  const known = new URL(location.href).searchParams,
    test = known.get("blind"),
    run = known.get("run");
  if (test && run) openTest(run, test);
  else if (dialog.open) dialog.close();
}
addEventListener("popstate", fromAddress);
fromAddress();
