// Small builders of the blind test. Texts are set with textContent, so nothing a user or a model wrote becomes markup.

function made(tag, kind, text) {
  const node = document.createElement(tag);
  if (kind) node.className = kind;
  if (text !== undefined) node.textContent = text;
  return node;
}

function percent(share) {
  return `${Math.round(share * 100)}%`;
}

function fold(title, text) {
  const box = made("details", "thought");
  box.append(made("summary", "", title), made("div", "blind-text", text));
  return box;
}

// An answer: its reasoning folded away, the text, and a mark where it was cut.
function drawnAnswer(answer) {
  const parts = [];
  if (answer.reasoning) parts.push(fold("Thought", answer.reasoning));
  const text = made("div", "blind-text", answer.text);
  text.dir = "auto";
  parts.push(answer.text ? text : made("i", "quiet", "No answer"));
  if (answer.cut) parts.push(made("p", "quiet", "Cut off at the maximum answer tokens"));
  return parts;
}

function lines(list, texts) {
  list.replaceChildren(...texts.map((text) => made("li", "", text)));
  list.hidden = !texts.length;
}

function saveText(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
