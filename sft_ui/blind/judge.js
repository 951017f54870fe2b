// The judge of a blind test: where the texts would go is said before anything is sent. In scope: made, percent, tiles.
// The address, the model and the NAME of the key's variable stay in the browser; a key is never typed here.

const JUDGE_KEPT = "blind-judge",
  JUDGE_MS = 1000;

function makeJudge(root, ask, show) {
  const part = (name) => root.querySelector(`[data-judge="${name}"]`),
    bar = part("working").querySelector(".blind-bar");
  let timer = 0,
    wasBusy = false;
  const given = () => ({
    url: part("url").value,
    model: part("model").value,
    key_env: part("key").value,
  });

  function remember() {
    try {
      localStorage.setItem(JUDGE_KEPT, JSON.stringify(given()));
    } catch {
      // the browser keeps nothing
    }
  }

  function recall() {
    try {
      const kept = JSON.parse(localStorage.getItem(JUDGE_KEPT) ?? "{}");
      part("url").value = kept.url ?? "";
      part("model").value = kept.model ?? "";
      part("key").value = kept.key_env ?? "";
    } catch {
      // nothing was kept
    }
  }

  async function allowed() {
    const answer = await ask("blind_judges", {});
    if (answer.error) return;
    part("allowed").hidden = answer.any;
    part("allowed").textContent = answer.listed.length
      ? `On this shared page only these may be asked: ${answer.listed.join(", ")}.`
      : "On this shared page no judge may be asked until its owner lists one in SFT_STUDIO_JUDGES.";
    root
      .querySelector("#blind-judges")
      .replaceChildren(
        ...answer.listed.map((one) => Object.assign(made("option"), { value: one })),
      );
  }

  function sure(words) {
    part("where").hidden = part("sure").hidden = part("no").hidden = !words;
    part("ask").hidden = Boolean(words);
    part("where").textContent = words ?? "";
    if (words) part("sure").focus();
  }

  async function start(isSure) {
    const answer = await ask("blind_judge", { ...given(), sure: isSure });
    if (answer.error) {
      sure("");
      return show(answer);
    }
    show({});
    if (!answer.pairs) {
      sure("");
      part("far").textContent = "";
      return show({
        error: {
          what: "The judge has voted on every answer.",
          where: "",
          fix: "Answer more questions, or ask another judge.",
        },
      });
    }
    if (!isSure) return sure(answer.where);
    remember();
    sure("");
    look();
  }

  async function look() {
    clearTimeout(timer);
    if (root.hidden || !root.closest("dialog").open) return;
    show(await ask("blind_result", {}));
  }

  function trust(found) {
    const words = [
      `${found.model} at ${found.host}: ${found.flips} of ${found.asked} verdicts changed with the order and count as ties.`,
    ];
    if (found.unusable) words.push(`${found.unusable} of its answers were no verdict.`);
    const { n, share, kappa } = found.agreement;
    if (share !== null) {
      const beyond = kappa === null ? "not defined" : kappa.toFixed(2);
      words.push(
        `It agrees with you on ${percent(share)} of ${n}; Cohen's kappa ${beyond} (1 is full agreement, 0 is chance).`,
      );
    } else words.push("You have not voted on the same questions, so its agreement is not known.");
    if (found.problem) words.push(`It ended early: ${found.problem}`);
    return words.join(" ");
  }

  function draw(view) {
    const found = view.judge,
      now = view.judging,
      busy = Boolean(now && !now.over);
    part("found").hidden = !found;
    if (found) {
      part("sentence").textContent = found.sentence;
      part("numbers").replaceChildren(...tiles(found, view.names));
      part("trust").textContent = trust(found);
    }
    if (found || busy) part("box").open = true;
    part("form").hidden = busy;
    part("working").hidden = !busy;
    clearTimeout(timer);
    if (busy) {
      const share = now.total ? Math.floor((100 * now.done) / now.total) : 0;
      part("far").textContent = now.stopping
        ? "Stopping…"
        : `Asking ${now.host}: ${now.done} of ${now.total}`;
      bar.style.setProperty("--share", `${share}%`);
      bar.setAttribute("aria-valuenow", share);
      timer = setTimeout(look, JUDGE_MS);
    } else if (wasBusy && now?.error) show({ error: now.error });
    wasBusy = busy;
  }

  part("form").addEventListener("submit", (event) => {
    event.preventDefault();
    start(false);
  });
  part("sure").addEventListener("click", () => start(true));
  part("no").addEventListener("click", () => sure(""));
  part("stop").addEventListener("click", async () => {
    part("far").textContent = "Stopping…";
    await ask("blind_judge_stop", {});
  });
  recall();
  return { draw, allowed, reset: () => (clearTimeout(timer), sure("")) };
}
