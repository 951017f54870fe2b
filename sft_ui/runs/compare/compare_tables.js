// The tables of a comparison: its runs, their scores with the best marked, their settings.
// Texts are set with textContent, so nothing that a user wrote becomes markup.

function make(tag, text = "", kind = "") {
  const node = document.createElement(tag);
  if (text) node.textContent = text;
  if (kind) node.className = kind;
  return node;
}

function headRow(first, runs) {
  const row = make("tr"),
    head = make("thead");
  row.append(make("th", first));
  runs.forEach((run, at) => {
    const cell = make("th", "", "compare-run");
    cell.scope = "col";
    cell.append(sampleOf(at), run.label);
    row.append(cell);
  });
  head.append(row);
  return head;
}

function bodyRow(name, cells) {
  const row = make("tr"),
    head = make("th", name);
  head.scope = "row";
  row.append(head, ...cells);
  return row;
}

function showRuns(box, runs) {
  box.replaceChildren(
    ...runs.map((run, at) => {
      const card = make("div", "", "compare-one"),
        link = make("a", run.label),
        name = make("b"),
        facts = [run.state, `${run.steps} steps`, run.time, run.memory];
      link.href = `?${new URLSearchParams({ run: run.id, tab: "train" })}`;
      link.title = "Open this run";
      name.append(sampleOf(at), link);
      card.append(name, make("span", run.about, "quiet"));
      card.append(make("span", facts.filter((one) => one !== "–").join(" · "), "quiet"));
      const tags = run.tags.map((tag) => make("span", tag, "tag"));
      if (tags.length) {
        const line = make("span", "", "tags");
        line.append(...tags);
        card.append(line);
      }
      if (run.notes) card.append(make("span", run.notes, "quiet compare-note"));
      return card;
    }),
  );
}

function showList(box, texts) {
  box.hidden = !texts.length;
  box.replaceChildren(...texts.map((text) => make("li", text)));
}

function scoreCell(one, at) {
  const isBest = one.best.includes(at),
    cell = make("td", "", isBest ? "best" : one.compares ? "" : "apart"),
    base = one.base[at];
  cell.append(make("span", one.values[at], "value"));
  if (isBest) cell.append(make("span", "★ best", "star"));
  if (base && base !== "–" && one.values[at] !== "–")
    cell.append(make("span", `base ${base}`, "quiet"));
  return cell;
}

function scoreRows(measures, runs) {
  return measures.map((one) => {
    const name = `${one.name} ${one.better === "lower" ? "↓" : "↑"}`,
      row = bodyRow(
        name,
        runs.map((run, at) => scoreCell(one, at)),
      );
    row.firstChild.title = one.better === "lower" ? "Lower is better" : "Higher is better";
    if (!one.compares) row.firstChild.append(make("span", "does not compare", "quiet"));
    return row;
  });
}

function showScores(table, note, data) {
  const body = make("tbody"),
    loss = data.runs.map((run) => make("td", run.loss));
  body.append(...scoreRows(data.scores, data.runs));
  body.append(bodyRow("Training loss", loss));
  body.append(
    bodyRow(
      "Rows asked",
      data.runs.map((run) => make("td", run.rows ? run.rows.toLocaleString("en") : "–")),
    ),
  );
  if (data.shared.measures.length) {
    const line = make("tr"),
      cell = make("th", `Over the ${data.shared.rows.toLocaleString("en")} rows that all share`);
    cell.colSpan = data.runs.length + 1;
    cell.className = "compare-part";
    line.append(cell);
    body.append(line, ...scoreRows(data.shared.measures, data.runs));
  }
  table.replaceChildren(headRow("Measure", data.runs), body);
  note.textContent = data.scores.length
    ? "★ marks the best of the scores that compare. ↑ higher is better, ↓ lower is better."
    : "None of these runs has a score yet.";
}

function showSettings(table, note, data, onlyDifferences) {
  const shown = data.settings.filter((one) => one.differs || !onlyDifferences),
    body = make("tbody");
  body.append(
    ...shown.map((one) => {
      const row = bodyRow(
        one.name,
        one.values.map((value) => make("td", value)),
      );
      row.firstChild.title = one.key;
      row.classList.toggle("differs", one.differs && !onlyDifferences);
      return row;
    }),
  );
  table.replaceChildren(headRow("Setting", data.runs), body);
  const same = data.settings.length - shown.length;
  table.parentElement.hidden = !shown.length;
  note.textContent = !shown.length
    ? "The runs have the same settings and data."
    : same
      ? `${same} settings are the same in all runs.`
      : "";
}
