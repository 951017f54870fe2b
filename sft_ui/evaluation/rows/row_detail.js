// A row in full: the conversation, tools, both answers with their differences, reasoning, scores.
// In scope: made, drawnPieces, plainText, foldedText, chips.

const ROLES = { system: "System", user: "User", assistant: "Assistant", tool: "Tool result" };
const LONG_TURN = 600; // characters after which a turn is folded

function asJson(value) {
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

function drawnTurn(turn) {
  const box = made("div", `row-turn ${ROLES[turn.role] ? turn.role : "user"}`);
  box.append(made("b", "", ROLES[turn.role] ?? turn.role));
  if (turn.thought) box.append(foldedText("Reasoning", turn.thought));
  if (turn.text.length > LONG_TURN && turn.role !== "user")
    box.append(foldedText(`${turn.text.slice(0, 80)}…`, turn.text));
  else if (turn.text) box.append(plainText(turn.text));
  for (const call of turn.calls) {
    const said = made("div", "row-call");
    said.append("Calls ", made("code", "", call.name), made("pre", "", asJson(call.arguments)));
    box.append(said);
  }
  return box;
}

function drawnConversation(detail) {
  const box = made("section", "row-part conversation");
  box.append(made("h3", "", "Conversation"));
  if (detail.tools.length) {
    const tools = made("details", "folded"),
      count = detail.tools.length;
    tools.append(
      made("summary", "quiet", count === 1 ? "1 tool" : `${count} tools`),
      made("pre", "", asJson(detail.tools)),
    );
    box.append(tools);
  }
  box.append(...detail.turns.map(drawnTurn), chips(null, detail.marks.prompt));
  return box;
}

function drawnAnswer(title, pieces, marks, reasoning) {
  const box = made("section", "row-part");
  box.append(made("h3", "", title));
  if (marks.length) box.append(chips(null, marks));
  if (reasoning) box.append(foldedText("Reasoning", reasoning));
  box.append(drawnPieces(pieces));
  return box;
}

// All scores of the row, a measure a line.
function drawnScores(scores, titleOf) {
  const table = made("table", "row-scores"),
    head = made("tr");
  for (const name of ["Measure", "Base model", "Tuned model"]) {
    const cell = made("th", "", name);
    cell.scope = "col";
    head.append(cell);
  }
  table.append(head);
  for (const [name, sides] of Object.entries(scores)) {
    const line = made("tr"),
      label = made("th", "", titleOf(name));
    label.scope = "row";
    line.append(
      label,
      ...["base", "tuned"].map((side) => made("td", "", sides[side]?.text ?? "–")),
    );
    table.append(line);
  }
  return table;
}

// `correct` is called when the person wants to correct this answer.
function drawnDetail(detail, titleOf, correct) {
  const box = made("div", "row-detail"),
    answers = made("div", "row-answers"),
    { marks, reasoning } = detail;
  answers.append(
    drawnAnswer("Expected", [["same", detail.expected]], [], reasoning.expected),
    drawnAnswer("Base model", detail.base, marks.base, reasoning.base),
    drawnAnswer("Tuned model", detail.tuned, marks.tuned, reasoning.tuned),
  );
  const actions = made("div", "row-actions"),
    button = made("button", "plain correct-answer", "Correct this answer");
  button.type = "button";
  button.addEventListener("click", correct);
  actions.append(button);
  box.append(drawnConversation(detail), answers);
  if (Object.keys(detail.scores).length) box.append(drawnScores(detail.scores, titleOf));
  box.append(actions);
  return box;
}
