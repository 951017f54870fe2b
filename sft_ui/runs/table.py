"""The table of runs as HTML: a run a row, with its state in words and colour, and its score.

Takes rows that are read already; reads no folder.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.run_words import state_words
from sft_ui.runs.view import Row, View
from trainer_backend.runs import LIVE

# column, its head, whether a phone has room for it
COLUMNS = (
    ("name", "Name", True),
    ("state", "State", True),
    ("score", "Score", True),
    ("eval_loss", "Eval loss", False),
    ("loss", "Loss", False),
    ("steps", "Steps", False),
    ("time", "Time", False),
    ("started", "Started", False),
)
LARGEST_FIRST = ("score", "steps", "time", "started")
NOTE_SHOWN = 90  # letters
EVERYTHING = View()
PICK_BAR = Markup(
    '<div class="compare-bar" data-live-bar><span data-said role="status">'
    "Tick 2 to 6 runs to compare them.</span>"
    '<button type="button" class="quiet-button" data-clear hidden>Clear</button>'
    '<button type="button" class="compare-button" data-compare disabled>Compare</button></div>'
)


def runs_table(
    rows: Sequence[Row], chosen: str, view: View = EVERYTHING, left_out: int = 0
) -> Markup:
    """The runs in the order of the view, and how many more match but are not shown."""
    if not rows:
        return _nothing(view)
    more = f"{left_out:,} more {'run' if left_out == 1 else 'runs'} not shown: filter the list, or "
    more += "“python -m trainer_backend runs” lists them all."
    note = markup.line(more, "quiet") if left_out else ""
    body = [_row(row, row.summary["id"] == chosen) for row in rows]
    table = markup.scroll_table("Runs", _heads(view), body)
    return Markup('<div class="card runs-card">{}{}{}</div>').format(PICK_BAR, table, note)


def _nothing(view: View) -> Markup:
    if view.is_filtered:
        return markup.empty("No run matches", "Change the filter above to see other runs.")
    return markup.empty(
        "No runs yet", "Start one in the Train tab. Runs stay here until you delete them."
    )


def _heads(view: View) -> Markup:
    tick = Markup('<th scope="col" class="tick"><span class="visually-hidden">Compare</span></th>')
    return Markup().join([tick, *(_head(*column, view) for column in COLUMNS)])


def _head(name: str, words: str, narrow: bool, view: View) -> Markup:
    is_it, down = view.sort.lstrip("-") == name, view.sort.startswith("-")
    order = ("descending" if down else "ascending") if is_it else "none"
    arrow = ("▾" if down else "▴") if is_it else ""
    template = Markup(
        '<th scope="col" class="{}" aria-sort="{}"><button type="button" data-sort="{}">{}'
        '<span aria-hidden="true">{}</span></button></th>'
    )
    return template.format("" if narrow else "wide", order, name, words, arrow)


def _row(row: Row, is_chosen: bool) -> Markup:
    one = row.summary
    template = Markup(
        '<tr class="{}" data-pick="{}"><td class="tick">{}</td><td class="run-name">{}</td>{}</tr>'
    )
    cells = markup.each(Markup('<td class="{}">{}</td>'), _cells(row))
    chosen = "chosen" if is_chosen else ""
    return template.format(chosen, one["id"], _tick(one), _name(row, is_chosen), cells)


def _tick(one: Mapping[str, Any]) -> Markup:
    """The box that picks a run for a comparison; none for a run that cannot be read."""
    if " " in one["state"]:
        return Markup()
    box = Markup(
        '<label><input type="checkbox" data-tick="{}" data-name="{}" aria-label="Compare {}">'
        "</label>"
    )
    return box.format(one["id"], one["name"], one["name"])


def _name(row: Row, is_chosen: bool) -> Markup:
    """The name; below it its id, the model and the data unless these are the name; tags, note."""
    one = row.summary
    model = one["base_model"].rstrip("/").rpartition("/")[2]
    is_plain = one["name"] == f"{model} on {one['dataset']}"
    below = one["id"][-6:] if is_plain else f"{one['id'][-6:]} · {model} on {one['dataset']}"
    template = Markup(
        '<button type="button" class="pick" data-pick="{}" aria-pressed="{}">{}</button>'
        '<div class="cell quiet below">{}</div>{}{}'
    )
    pressed = "true" if is_chosen else "false"
    return template.format(one["id"], pressed, one["name"], below, _tags(row), _note(one))


def _tags(row: Row) -> Markup:
    best = Markup('<span class="tag best">★ Best of its sweep</span>') if row.is_best else Markup()
    tags = ((tag,) for tag in row.summary.get("tags") or ())
    inside = markup.each(Markup('<span class="tag">{}</span>'), tags)
    return Markup('<div class="tags">{}{}</div>').format(best, inside) if best + inside else best


def _note(one: Mapping[str, Any]) -> Markup:
    text = " ".join(str(one.get("notes") or "").split())
    if not text:
        return Markup()
    shown = text if len(text) <= NOTE_SHOWN else f"{text[:NOTE_SHOWN]}…"
    return Markup('<div class="cell below note">{}</div>').format(shown)


def _cells(row: Row) -> list[tuple[str, object]]:
    one = row.summary
    steps = f"{one['step'] or 0:,} of {one['total_steps']:,}" if one["total_steps"] else "–"
    return [
        ("", _state(one)),
        ("", _score(row)),
        ("wide number", _number(one["eval_loss"])),
        ("wide number", _number(one["loss"])),
        ("wide nowrap", steps),
        ("wide nowrap", duration(one["elapsed_seconds"])),
        ("wide nowrap", time.strftime("%d %b %H:%M", time.localtime(one["created_at"]))),
    ]


def _score(row: Row) -> Markup:
    score = row.score
    template = Markup(
        '<span class="score{}" title="{}">{} <span class="mark {}" aria-hidden="true">{}</span>'
        '<span class="visually-hidden"> {}</span></span>'
    )
    kind = score.verdict.partition(" ")[0]
    quiet = "" if score.order[0] > 1 else " quiet"
    return template.format(quiet, score.said, score.text, kind, score.mark, score.verdict)


def _state(one: Mapping[str, Any]) -> Markup:
    live = Markup(" data-live") if one["state"] in LIVE else ""
    kind = one["state"] if " " not in one["state"] else "unreadable"
    template = Markup('<span class="run-state {}"{}>{}</span>')
    return template.format(kind, live, state_words(one))


def _number(value: float | None) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else "–"


def duration(seconds: float | None) -> str:
    """Seconds as the page shows them; “–” for none."""
    if not seconds:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes_left} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
