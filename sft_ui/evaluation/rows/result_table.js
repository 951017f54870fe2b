// The table of rows: order, filter, pages, and a row in full below its line.
// In scope: made, drawnPieces, plainText, chips, drawnDetail, saveFile. `ask` calls the server.

const ORDER_WORDS = [
  ["tuned", false, "Worst first"],
  ["tuned", true, "Best first"],
  ["row", false, "By row"],
  ["change", false, "Got worse first"],
  ["change", true, "Got better first"],
  ["base", false, "Base model: worst first"],
  ["base", true, "Base model: best first"],
  ["row", true, "Last row first"],
];
const COLUMNS_OF_ROW = ["Row", "Prompt", "Expected", "Base model", "Tuned model"];

function makeResultTable(root, ask, correct) {
  const box = root.querySelector('[data-result="rows"]'),
    part = (name) => box.querySelector(`[data-rows="${name}"]`),
    body = box.querySelector("tbody");
  const start = () => ({ by: "tuned", falls: false, wrong: false, changed: false, start: 0 });
  const known = { id: "", head: null, asked: 0, view: { ...start(), measure: "", size: 40 } };
  const titleOf = (name) => known.head?.measures.find((one) => one.name === name)?.title ?? name;

  part("order").replaceChildren(
    ...ORDER_WORDS.map(([by, falls, words]) => {
      const option = made("option", "", words);
      option.value = `${by} ${falls}`;
      return option;
    }),
  );

  function showOrder() {
    const { by, falls } = known.view;
    part("order").value = `${by} ${falls}`;
    for (const head of box.querySelectorAll("th[data-by]")) {
      const isIt = head.dataset.by === by;
      head.setAttribute("aria-sort", isIt ? (falls ? "descending" : "ascending") : "none");
    }
    const measure = known.head?.measures.find((one) => one.name === known.view.measure);
    part("wrong-words").textContent = measure?.wrong ?? "Wrong only";
    part("measure").title = measure?.help ?? "";
  }

  function cell(label, ...inside) {
    const td = made("td");
    td.setAttribute("role", "cell");
    td.dataset.label = label;
    td.append(...inside);
    return td;
  }

  function drawnRow(row) {
    const line = made("tr"),
      toggle = made("button", "row-toggle", `${row.row}`);
    line.setAttribute("role", "row");
    toggle.type = "button";
    toggle.setAttribute("aria-expanded", "false");
    toggle.setAttribute("aria-label", `Row ${row.row} in full`);
    toggle.addEventListener("click", () => turn(line, toggle, row.at));
    const [first, prompt, expected, base, tuned] = COLUMNS_OF_ROW;
    line.append(
      cell(first, toggle),
      cell(prompt, plainText(row.prompt), chips(null, row.marks.prompt)),
      cell(expected, plainText(row.expected)),
      cell(base, chips(row.scores.base, row.marks.base), drawnPieces(row.base)),
      cell(tuned, chips(row.scores.tuned, row.marks.tuned), drawnPieces(row.tuned)),
    );
    return line;
  }

  async function turn(line, toggle, at) {
    const open = toggle.getAttribute("aria-expanded") === "true",
      below = line.nextElementSibling;
    toggle.setAttribute("aria-expanded", !open);
    if (below?.classList.contains("in-full")) {
      below.hidden = open;
      return;
    }
    if (open) return;
    const full = made("tr", "in-full"),
      inside = made("td", "", "Loading…");
    full.setAttribute("role", "row");
    inside.setAttribute("role", "cell");
    inside.colSpan = COLUMNS_OF_ROW.length;
    full.append(inside);
    line.after(full);
    const answer = await ask("row_of_result", { evaluation: known.id, at });
    if (answer.error) inside.textContent = `${answer.error.what} ${answer.error.fix}`;
    else inside.replaceChildren(drawnDetail(answer, titleOf, () => correct(answer.correction)));
  }

  function showPage(page) {
    body.replaceChildren(...page.rows.map(drawnRow));
    part("none").hidden = page.total > 0;
    box.querySelector(".table-scroll").hidden = !page.total;
    const shown = page.total === page.of ? `${page.of}` : `${page.total} of ${page.of}`;
    part("title").textContent = `Rows: ${shown}`;
    part("pager").hidden = page.of <= 40;
    const last = page.start + page.rows.length;
    part("place").textContent = page.total ? `${page.start + 1}–${last} of ${page.total}` : "–";
    part("back").disabled = !page.start;
    part("next").disabled = last >= page.total;
    known.view.start = page.start;
  }

  async function load() {
    showOrder();
    const turnOf = ++known.asked,
      page = await ask("rows_of_result", { evaluation: known.id, ...known.view });
    if (turnOf !== known.asked) return;
    if (page.error) part("title").textContent = `${page.error.what} ${page.error.fix}`;
    else showPage(page);
  }

  function look(change) {
    Object.assign(known.view, { start: 0 }, change);
    return load();
  }

  for (const head of box.querySelectorAll("th[data-by]"))
    head.querySelector("button").addEventListener("click", () => {
      const { by, falls } = known.view,
        again = by === head.dataset.by;
      look({ by: head.dataset.by, falls: again && !falls });
    });
  part("order").addEventListener("change", (event) => {
    const [by, falls] = event.target.value.split(" ");
    look({ by, falls: falls === "true" });
  });
  part("measure").addEventListener("change", (event) => look({ measure: event.target.value }));
  for (const name of ["wrong", "changed"])
    part(name).addEventListener("change", (event) => look({ [name]: event.target.checked }));
  part("size").addEventListener("change", (event) => look({ size: +event.target.value }));
  const scroll = () => (box.querySelector(".table-scroll").scrollTop = 0);
  const move = (by) =>
    load(Object.assign(known.view, { start: Math.max(0, known.view.start + by) })).then(scroll);
  part("back").addEventListener("click", () => move(-known.view.size));
  part("next").addEventListener("click", () => move(known.view.size));
  part("csv").addEventListener("click", async () => {
    const file = await ask("csv_of_result", { evaluation: known.id });
    if (!file.error) saveFile(file.name, file.text, "text/csv");
  });

  return function show(head) {
    box.hidden = !head?.rows;
    if (!head || head.id === known.id) return;
    known.id = head.id;
    known.head = head;
    known.view = { ...start(), measure: head.measures[0]?.name ?? "", size: known.view.size };
    for (const name of ["wrong", "changed"]) part(name).checked = false;
    part("measure").replaceChildren(
      ...head.measures.map((one) => {
        const option = made("option", "", one.title);
        option.value = one.name;
        return option;
      }),
    );
    if (head.rows) load();
  };
}
