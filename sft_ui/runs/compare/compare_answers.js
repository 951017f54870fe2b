// The answers of compared runs to one held-out row side by side, and the list that picks the row.

const ROLE_WORDS = { system: "System", user: "User", assistant: "Assistant", tool: "Tool" };
const ROWS_SHOWN = 300; // of the list; a search finds the others

function makeCompareAnswers(root, askRow) {
  const part = (name) => root.querySelector(`[data-part="${name}"]`),
    list = part("rows"),
    box = part("row"),
    search = root.querySelector('[data-tool="search"]'),
    differing = root.querySelector('[data-tool="differing"]');
  let data = null,
    chosen = 0,
    drawn = "",
    asking = 0;

  function found() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    return data.answers
      .map((row, at) => ({ ...row, at }))
      .filter((row) => !differing.checked || row.differs)
      .filter((row) => {
        const text = `${row.row ?? ""} ${row.prompt} ${row.texts}`.toLowerCase();
        return words.every((word) => text.includes(word));
      });
  }

  function scoreDot(score, at) {
    const dot = make("i", "", "compare-dot"),
      good = score === null || score === undefined ? "none" : score >= 0.999 ? "right" : "part";
    dot.classList.add(score === 0 ? "wrong" : good);
    dot.title = `${data.runs[at].label}: ${score === null || score === undefined ? "no score" : Math.round(score * 100) + "%"}`;
    dot.textContent = score === 0 ? "✗" : good === "right" ? "✓" : good === "part" ? "~" : "–";
    return dot;
  }

  function showList_() {
    const rows = found();
    list.replaceChildren(
      ...rows.slice(0, ROWS_SHOWN).map((row) => {
        const item = make("div", "", "compare-item"),
          dots = make("span", "", "compare-dots");
        item.id = `compare-row-${row.at}`;
        item.role = "option";
        item.dataset.at = row.at;
        item.setAttribute("aria-selected", row.at === chosen);
        dots.append(...row.scores.map(scoreDot));
        item.append(make("span", row.row === null ? "–" : `${row.row}`, "quiet"));
        item.append(make("span", row.prompt, "compare-prompt"), dots);
        return item;
      }),
    );
    if (!rows.length) list.append(make("p", "No row matches.", "quiet"));
    if (rows.length > ROWS_SHOWN)
      list.append(make("p", `${rows.length - ROWS_SHOWN} more: search to see them.`, "quiet"));
    list.setAttribute("aria-activedescendant", `compare-row-${chosen}`);
    return rows;
  }

  function textCard(title, text, kind = "", scores = []) {
    const card = make("div", "", `compare-text ${kind}`),
      head = make("div", "", "compare-text-head");
    head.append(...[title].flat());
    card.append(head, make("div", text || "(empty)", text ? "compare-said" : "compare-said quiet"));
    if (scores.length) card.append(make("div", scores.join(" · "), "quiet"));
    return card;
  }

  function conversation(row) {
    const said = row.messages.filter((one) => one.content);
    if (said.length < 2) return textCard("Prompt", row.prompt, "wide");
    const text = said.map((one) => `${ROLE_WORDS[one.role] ?? one.role}: ${one.content}`);
    return textCard("Conversation", text.join("\n\n"), "wide");
  }

  function showRow(row) {
    const cards = [conversation(row), textCard("Expected answer", row.expected, "expected-text")];
    if (row.base) cards.push(textCard("Base model", row.base));
    data.runs.forEach((run, at) => {
      const name = make("span");
      name.append(sampleOf(at), run.label);
      if (row.marks[at]?.cut) name.append(make("span", "cut at the limit", "tag"));
      const text = row.answers[at];
      if (text === null) cards.push(textCard(name, "This run was not asked.", "none"));
      else cards.push(textCard(name, text, "run-text", row.scores[at]));
    });
    box.replaceChildren(...cards);
  }

  async function choose(at) {
    chosen = at;
    for (const item of list.querySelectorAll("[data-at]"))
      item.setAttribute("aria-selected", +item.dataset.at === at);
    list.setAttribute("aria-activedescendant", `compare-row-${at}`);
    list.querySelector(`[data-at="${at}"]`)?.scrollIntoView({ block: "nearest" });
    const turn = ++asking,
      row = await askRow(at);
    if (turn === asking && row?.answers) showRow(row);
  }

  function pick() {
    const rows = showList_();
    if (rows.length) choose(rows.some((row) => row.at === chosen) ? chosen : rows[0].at);
    else box.replaceChildren();
  }

  list.addEventListener("click", (event) => {
    const item = event.target.closest("[data-at]");
    if (item) choose(+item.dataset.at);
  });
  list.addEventListener("keydown", (event) => {
    const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const rows = found(),
      at = rows.findIndex((row) => row.at === chosen) + move;
    if (rows[at]) choose(rows[at].at);
  });
  search.addEventListener("input", pick);
  differing.addEventListener("change", pick);

  return {
    forget() {
      search.value = "";
      differing.checked = false;
      chosen = 0;
      drawn = "";
    },
    show(next) {
      data = next;
      const none = !data.answers.length,
        same = JSON.stringify([data.answers, data.runs.map((run) => run.label)]);
      part("answers").hidden = part("differing-label").hidden = none;
      part("answers-none").hidden = !none;
      part("answers-none").textContent =
        "No held-out row was asked of two of these runs. Evaluate them on the same data to see their answers here.";
      const count = data.answers.length;
      part("answers-count").textContent = none
        ? ""
        : `${count.toLocaleString("en")} ${count === 1 ? "row" : "rows"} that all were asked`;
      if (none || same === drawn) return;
      drawn = same;
      pick();
    },
  };
}
