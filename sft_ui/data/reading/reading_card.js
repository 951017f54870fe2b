// Data being read: progress, first rows, first problems, and a cancel button.
// The server reads in a process of its own; this card only polls it, so that a reload or a second tab finds it again.
// In scope from gr.HTML: element, props, server, watch, trigger. Texts are set with textContent, never as markup.

const root = element.querySelector(".reading"),
  KEPT = `sft-studio-reading-${element.closest("#held-out-reading") ? "held-out" : "data"}`,
  FIRST_ROWS = 8,
  MAX_CELL = 240;
const part = (name) => root.querySelector(`[data-reading="${name}"]`);
const state = { reading: "", stamp: null, timer: 0, began: 0 };
const number = (value) => Math.round(value).toLocaleString("en");
const megabytes = (bytes) =>
  bytes < 1e6
    ? `${Math.max(1, Math.round(bytes / 1e3))} kB`
    : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
function made(name, text, kind) {
  return Object.assign(document.createElement(name), { textContent: text, className: kind ?? "" });
}
function keep(reading) {
  try {
    if (reading) localStorage.setItem(KEPT, reading);
    else localStorage.removeItem(KEPT);
  } catch (refused) {
    /* private browsing: the id is lost on reload */
  }
}
function kept() {
  try {
    return localStorage.getItem(KEPT) || "";
  } catch (refused) {
    return "";
  }
}

function timeLeft(answer) {
  const seconds = (Date.now() - state.began) / 1000,
    done = answer.bytes / answer.total;
  if (!answer.total || done < 0.03 || done >= 1 || seconds < 3) return "";
  const left = Math.round((seconds * (1 - done)) / done);
  return left < 2
    ? ""
    : left < 90
      ? ` · about ${left} s left`
      : ` · about ${Math.round(left / 60)} min left`;
}

function showProgress(answer) {
  const share = answer.total ? Math.min(100, Math.round((100 * answer.bytes) / answer.total)) : 0,
    bar = root.querySelector(".progress-bar");
  part("name").textContent = answer.name;
  part("what").textContent = answer.rows
    ? `${answer.what}: ${number(answer.rows)} rows`
    : answer.what;
  part("how").textContent = answer.how
    ? answer.how
    : answer.total
      ? `${megabytes(answer.bytes)} of ${megabytes(answer.total)}${timeLeft(answer)}`
      : "";
  bar.style.setProperty("--share", `${share}%`);
  bar.setAttribute("aria-valuenow", share);
  bar.classList.toggle("busy", !answer.total || share >= 100);
}

function showFirst(answer) {
  if (answer.stamp === state.stamp) return;
  state.stamp = answer.stamp;
  const found = part("found"),
    rows = part("rows");
  found.hidden = !answer.problems.length;
  found.replaceChildren(
    ...answer.problems.map(({ what, count }) =>
      made("li", count > 1 ? `${what} (${number(count)} so far)` : what),
    ),
  );
  rows.hidden = !answer.preview.length;
  const columns = [...new Set(answer.preview.flatMap(([, cells]) => Object.keys(cells)))].slice(
    0,
    8,
  );
  rows
    .querySelector("thead tr")
    .replaceChildren(
      ...["Row", ...columns].map((name) => Object.assign(made("th", name), { scope: "col" })),
    );
  rows.querySelector("tbody").replaceChildren(
    ...answer.preview.slice(0, FIRST_ROWS).map(([row, cells]) => {
      const line = document.createElement("tr");
      line.append(
        made("td", number(row), "nowrap"),
        ...columns.map((name) => {
          const cell = document.createElement("td"),
            text = cells[name] ?? "";
          cell.append(
            made("div", text.length > MAX_CELL ? `${text.slice(0, MAX_CELL)}…` : text, "cell"),
          );
          return cell;
        }),
      );
      return line;
    }),
  );
}

function leave() {
  keep("");
  Object.assign(state, { reading: "", stamp: null });
  root.hidden = true;
}

async function poll() {
  clearTimeout(state.timer);
  if (!root.isConnected) return;
  const wanted = props.value || kept();
  if (!wanted) {
    root.hidden = true;
    return;
  }
  if (wanted !== state.reading) {
    Object.assign(state, { reading: wanted, stamp: null, began: Date.now() });
    keep(wanted);
    part("cancel").disabled = false;
  }
  let wait = document.hidden ? 3000 : 300;
  try {
    const answer = await server.watch_reading({ reading: wanted, stamp: state.stamp });
    if (wanted !== state.reading) return;
    if (answer.state === "reading") {
      showProgress(answer);
      showFirst(answer);
      root.hidden = false;
    } else {
      leave();
      props.value = "";
      if (answer.state !== "gone") trigger("finished", { reading: wanted });
      return;
    }
  } catch (failure) {
    wait = 4000;
    part("what").textContent = "Reconnecting…";
  }
  state.timer = setTimeout(poll, wait);
}

part("cancel").addEventListener("click", (event) => {
  event.currentTarget.disabled = true;
  part("what").textContent = "Stopping…";
  server.cancel_reading({ reading: state.reading });
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});
watch("value", poll);
poll();
