// Small builders for rows: elements with a text, answers with their differences, folded texts.
// Texts are set with textContent, so nothing a user or a model wrote becomes markup.

function made(tag, kind, text) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  return node;
}

const PIECES = { ins: "ins", del: "del" };

// Pieces [[kind, text]] as text with <ins> and <del>; `dir` follows the text's own script.
function drawnPieces(pieces) {
  const box = made("div", "answer-text");
  box.dir = "auto";
  for (const [kind, text] of pieces)
    box.append(PIECES[kind] ? made(PIECES[kind], "", text) : document.createTextNode(text));
  if (!pieces.length) box.append(made("i", "quiet", "no answer"));
  return box;
}

function plainText(text) {
  const box = made("div", "answer-text", text);
  box.dir = "auto";
  return box;
}

function foldedText(title, text) {
  const box = made("details", "folded");
  box.append(made("summary", "quiet", title), plainText(text));
  return box;
}

// A graded score is a number; one that is right or wrong says so by a sign and a colour.
function chip(score) {
  if (score.graded) return made("span", "score", score.text);
  const kind = score.wrong ? "wrong" : "right";
  return made("span", `score ${kind}`, `${score.wrong ? "✗" : "✓"} ${score.text}`);
}

function chips(score, marks) {
  const line = made("div", "score-line");
  if (score) line.append(chip(score));
  for (const mark of marks) line.append(made("span", "mark-note", mark));
  return line;
}
