"""The pieces of HTML the tabs show. Every text becomes HTML here, escaped, and nowhere else.

What the pieces say is decided in the tabs; how they look is in static/style.css.
"""

from collections.abc import Iterable, Sequence
from html import escape

from trainer_backend.errors import Problem, UserError

MAX_CELL = 300
WORDS = {"error": "Must be fixed", "warning": "Worth a look", "info": "Good to know"}

# A table's rows and buttons carry data-pick; choosing one fires the event `pick` with that id.
PICK_SCRIPT = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('[data-pick]');
  if (!chosen) return;
  for (const row of element.querySelectorAll('tr[data-pick]')) {
    const isIt = row.dataset.pick === chosen.dataset.pick;
    row.classList.toggle('chosen', isIt);
    row.querySelector('button').setAttribute('aria-pressed', isIt);
  }
  trigger('pick', { id: chosen.dataset.pick });
});
"""


class Markup(str):
    """HTML made by the page itself, for a table cell that is more than text."""


def card(title: str, *body: str, kind: str = "") -> str:
    """A card: its title is text, its body is HTML made here."""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    return f'<div class="card {kind}">{head}{"".join(body)}</div>'


def empty(title: str, text: str) -> str:
    """What stands where nothing is yet."""
    return f'<div class="card empty"><b>{escape(title)}</b>{escape(text)}</div>'


def line(text: str, kind: str = "") -> str:
    """One paragraph of text."""
    return f'<p class="{kind}">{escape(text)}</p>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
    """Names with their values; pairs without a value are left out."""
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in pairs
        if value not in (None, "")
    )
    return f'<dl class="facts">{rows}</dl>'


def chips(texts: Iterable[str]) -> str:
    """Short facts side by side."""
    return (
        '<div class="chips">'
        + "".join(f'<span class="chip">{escape(t)}</span>' for t in texts)
        + "</div>"
    )


def more(summary: str, body: str) -> str:
    """Something folded away behind its summary."""
    return f'<details><summary class="quiet">{escape(summary)}</summary>{body}</details>'


def problem_card(problem: Problem) -> str:
    """One finding: what, where with row numbers, and how to fix it."""
    where = problem.where
    if problem.count > 1 and problem.rows:
        numbers = ", ".join(f"{row:,}" for row in problem.rows[:12])
        rest = problem.count - min(len(problem.rows), 12)
        where += f" · rows {numbers}" + (f" and {rest:,} more" if rest > 0 else "")
    title = f"{WORDS.get(problem.severity, '')}: {problem.what}"
    return card(
        title, line(where, "where"), line(problem.fix), kind=f"problem {escape(problem.severity)}"
    )


def error_card(error: UserError) -> str:
    """A UserError that stays on the page."""
    return card(error.what, line(error.where, "where"), line(error.fix), kind="problem error")


def stack(pieces: Iterable[str]) -> str:
    """Cards below each other."""
    return f'<div class="stack">{"".join(pieces)}</div>'


def cell(value: object) -> str:
    """A table cell with the text cut to a readable length."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return '<div class="cell null">empty</div>'
    text = str(value)
    shown = text if len(text) <= MAX_CELL else text[:MAX_CELL] + "…"
    return f'<div class="cell">{escape(shown)}</div>'


def table(
    label: str,
    headers: Sequence[str],
    rows: Iterable[tuple[str, str, Sequence[object]]],
    chosen: str = "",
) -> str:
    """A table whose rows can be chosen: (id, text of the row's button, cells)."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in headers)
    body = "".join(pick_row(row_id, name, cells, row_id == chosen) for row_id, name, cells in rows)
    return (
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def plain_table(label: str, headers: Sequence[str], rows: Iterable[tuple[object, Sequence]]) -> str:
    """A table only to be read: (row number, cells)."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in ["Row", *headers])
    body = "".join(
        f'<tr><td class="nowrap">{escape(str(number))}</td>'
        + "".join(f"<td>{cell(value)}</td>" for value in cells)
        + "</tr>"
        for number, cells in rows
    )
    return (
        f'<div class="table-scroll" tabindex="0" role="region" aria-label="{escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def pick_row(
    row_id: str, name: str, cells: Sequence[object], is_chosen: bool, mark: str = ""
) -> str:
    """One row that can be chosen by its button: id, text of the button, cells, a class."""
    key = escape(row_id)
    pressed = "true" if is_chosen else "false"
    button = (
        f'<button type="button" class="pick" data-pick="{key}" aria-pressed="{pressed}">'
        f"{escape(name)}</button>"
    )
    columns = "".join(f"<td>{cell(value)}</td>" for value in cells)
    kinds = " ".join(filter(None, ["chosen" if is_chosen else "", mark]))
    kind = f' class="{kinds}"' if kinds else ""
    return f'<tr{kind} data-pick="{key}"><td class="nowrap">{button}</td>{columns}</tr>'
