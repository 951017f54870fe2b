// The result of a blind test: who won, how sure that is, every question. In scope: made, percent, drawnAnswer, lines, saveText.

function tile(words, value, kind) {
  const box = made("div", kind ?? "");
  box.append(made("b", "", value), made("span", "", words));
  return box;
}

function tiles(found, names) {
  const same = found.same === 1 ? "1 same answer" : `${found.same} same answers`;
  const rate = found.rate === null ? "–" : percent(found.rate);
  return [
    tile(`Win rate of ${names.first}`, rate, "rate"),
    tile(`for ${names.first}`, found.wins),
    tile(`for ${names.second}`, found.losses),
    tile(found.same ? `ties (${same})` : "ties", found.ties),
  ];
}

function makeResult(root, ask, show, startAgain) {
  const part = (name) => root.querySelector(`[data-result="${name}"]`);
  const head = root.querySelector("thead tr"),
    body = root.querySelector("tbody");

  function drawInterval(found, names) {
    const box = part("interval");
    box.hidden = !found.interval;
    if (!found.interval) return;
    const [low, high] = found.interval;
    // the first model stands on the left, so its wins reach to the left
    box.style.setProperty("--from", percent(1 - high));
    box.style.setProperty("--wide", percent(high - low));
    box.style.setProperty("--at", percent(1 - found.rate));
    part("low-name").textContent = names.first;
    part("high-name").textContent = names.second;
  }

  function about(view) {
    const found = view.you;
    const words = [];
    if (found.interval) {
      const [low, high] = found.interval.map(percent);
      words.push(
        `The 95% interval of the win rate is ${low} to ${high} (Wilson); ties are left out of both.`,
      );
    }
    if (view.left_out) words.push(`${view.left_out} of ${view.total} questions were left out.`);
    return words.join(" ");
  }

  function cell(parts, kind) {
    const node = made("td", kind ?? "");
    const box = made("div", "cell");
    box.append(...parts);
    node.append(box);
    return node;
  }

  function drawRow(row, view) {
    const line = made("tr");
    const answer = (side) => (row.answers[side] ? drawnAnswer(row.answers[side]) : [""]);
    line.append(
      cell([row.row ? `${row.at + 1} (row ${row.row})` : `${row.at + 1}`], "nowrap"),
      cell([row.prompt]),
      cell(answer("first")),
      cell(answer("second")),
      cell([row.vote || "–"]),
    );
    if (view.judge)
      line.append(cell([row.judge || "–", row.flipped ? made("i", "quiet", " (flipped)") : ""]));
    line.addEventListener("click", () => line.classList.toggle("whole"));
    return line;
  }

  function draw(view) {
    part("sentence").textContent = view.you.sentence;
    part("numbers").replaceChildren(...tiles(view.you, view.names));
    drawInterval(view.you, view.names);
    part("about").textContent = about(view);
    lines(part("notes"), view.notes);
    part("go-on").hidden = !view.open;
    part("go-on").textContent = `Go on: ${view.open} open`;
    const names = [view.names.first, view.names.second];
    const titles = ["Question", "Prompt", ...names, "Your vote"];
    if (view.judge) titles.push("Judge");
    head.replaceChildren(
      ...titles.map((text) => Object.assign(made("th", "", text), { scope: "col" })),
    );
    body.replaceChildren(...view.rows.map((row) => drawRow(row, view)));
  }

  part("go-on").addEventListener("click", async () => {
    const answer = await ask("blind_go_on", {});
    show(answer.error ? answer : await ask("blind_question", {}));
  });
  part("undo").addEventListener("click", async () => show(await ask("blind_take_back", {})));
  part("new").addEventListener("click", startAgain);
  part("csv").addEventListener("click", async () => {
    const answer = await ask("blind_csv", {});
    if (answer.error) show(answer);
    else saveText(answer.name, answer.text);
  });
  return { draw, focus: () => part("sentence").focus({ preventScroll: true }) };
}
