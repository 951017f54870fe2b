// What stands above the rows: warnings, the sentence, the big numbers, the other measures, facts.
// In scope: made.

function makeResultHead(root) {
  const part = (name) => root.querySelector(`[data-result="${name}"]`);
  const main = (name) => root.querySelector(`[data-main="${name}"]`);
  const items = (texts) => texts.map((text) => made("li", "", text));

  function fold(name, texts) {
    part(name).hidden = !texts.length;
    part(name)
      .querySelector("ul")
      .replaceChildren(...items(texts));
  }

  function showMain(measure) {
    part("main").hidden = !measure;
    if (!measure) return;
    for (const name of ["title", "help", "base", "tuned", "base_count", "tuned_count", "interval"])
      main(name).textContent = measure[name];
    main("sure").hidden = !measure.interval;
    const meters = part("main").querySelector(".meters");
    meters.hidden = measure.base_share === null;
    for (const side of ["base", "tuned"])
      meters
        .querySelector(`.${side}`)
        .style.setProperty("--share", `${(measure[`${side}_share`] ?? 0) * 100}%`);
  }

  function drawn(measure) {
    const box = made("div"),
      value = made("dd");
    box.title = measure.help;
    value.append(measure.base, made("span", "arrow", " → "), made("b", "", measure.tuned));
    if (measure.interval) value.append(made("span", "quiet", ` (${measure.interval})`));
    box.append(made("dt", "", measure.title), value);
    return box;
  }

  return function show(head) {
    fold("warnings", head?.warnings ?? []);
    fold("notes", [...(head?.notes ?? []), ...(head?.harness ?? [])]);
    part("hero").dataset.tone = head?.tone ?? "none";
    part("verdict").hidden = !head?.verdict;
    part("verdict").textContent = head?.verdict ?? "";
    part("sentence").textContent =
      head?.sentence || (head ? "Evaluated" : "This run has not been evaluated yet.");
    showMain(head?.main);
    const others = [...(head?.others ?? []), ...(head?.losses ?? [])];
    part("others").replaceChildren(...others.map(drawn));
    part("facts").textContent = (head?.facts ?? []).join(" · ");
  };
}
