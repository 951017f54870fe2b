// The result of the run that is shown: its newest evaluation, its rows, and a new evaluation.
// In scope: made, makeResultHead, makeResultTable, makeAsking, and from gr.HTML element, server, trigger.
// The live view tells which run is shown and when it has new results, by the event studio-watched.

const root = element.querySelector(".result");
const known = { run: "", stamp: null, chosen: "", asked: 0 };
const PHONE = matchMedia("(max-width: 720px)");
const picker = root.querySelector('[data-result="picker"]');

const ask = (name, given) => server[name]({ run: known.run, ...given });
const showHead = makeResultHead(root);
const showTable = makeResultTable(root, ask, (answer) => trigger("correct", answer));
const showAsking = makeAsking(root, ask, (evaluation) => {
  known.chosen = evaluation;
  load();
  trigger("evaluated", { run: known.run, evaluation });
});

function fillPicker(evaluations, shown) {
  picker.hidden = evaluations.length < 2;
  const select = picker.querySelector("select");
  select.replaceChildren(
    ...evaluations.map(({ id, label }) => {
      const option = made("option", "", label);
      option.value = id;
      return option;
    }),
  );
  select.value = shown ?? "";
}

async function load() {
  const turn = ++known.asked;
  const answer = known.run
    ? await ask("result_of_run", { evaluation: known.chosen })
    : { error: true };
  if (turn !== known.asked) return;
  const { shown, choices } = answer;
  root.hidden = Boolean(answer.error) || (!shown && (choices.live || !choices.can));
  if (answer.error) return;
  fillPicker(answer.evaluations, shown?.id);
  showHead(shown);
  showAsking(known.run, choices, Boolean(shown), answer.evaluations.length > 1);
  showTable(shown);
  if (shown) root.querySelector('[data-result="said"]').textContent = shown.sentence;
}

picker.querySelector("select").addEventListener("change", (event) => {
  known.chosen = event.target.value;
  load();
});
// On a phone the rows are cards, one below the other: they are unfolded when asked for.
root.querySelector('[data-result="rows"]').open = !PHONE.matches;

document.addEventListener("studio-watched", ({ detail }) => {
  if (!root.isConnected) return;
  const { run, stamp } = detail;
  if (run === known.run && stamp === known.stamp) return;
  if (run !== known.run) known.chosen = "";
  Object.assign(known, { run, stamp });
  load();
});
