"""The table of runs as HTML: a run a row, with its state in words and colour.

Takes summaries of runs; reads no folder.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.run_words import state_words
from trainer_backend.runs import LIVE

HEADERS = ("Run", "Name", "State", "Steps", "Loss", "Eval loss", "Time", "Started")


def runs_table(summaries: Sequence[Mapping[str, Any]], chosen: str, left_out: int = 0) -> Markup:
    """The runs, newest first, and how many older ones are not shown."""
    if not summaries:
        return markup.empty(
            "No runs yet", "Start one in the Train tab. Runs stay here until you delete them."
        )
    rows = [(one["id"], one["id"][-6:], _cells(one)) for one in summaries]
    older = "older run is" if left_out == 1 else "older runs are"
    more = f"{left_out:,} {older} not shown; “python -m trainer_backend runs” lists them all."
    note = markup.line(more, "quiet") if left_out else ""
    table = markup.table("Runs", HEADERS, rows, chosen)
    return Markup('<div class="card">{}{}</div>').format(table, note)


def _cells(one: Mapping[str, Any]) -> list[object]:
    steps = f"{one['step'] or 0:,} of {one['total_steps']:,}" if one["total_steps"] else "–"
    return [
        _name(one),
        _state(one),
        steps,
        _number(one["loss"]),
        _number(one["eval_loss"]),
        duration(one["elapsed_seconds"]),
        time.strftime("%d %b %H:%M", time.localtime(one["created_at"])),
    ]


def _name(one: Mapping[str, Any]) -> Markup:
    """The name, and below it the model and the data, unless these are the name."""
    model = one["base_model"].rstrip("/").rpartition("/")[2]
    is_plain = one["name"] == f"{model} on {one['dataset']}"
    below = "" if is_plain else f"{model} on {one['dataset']}"
    template = Markup('<div class="cell">{}</div><div class="cell quiet below">{}</div>')
    return template.format(one["name"], below)


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
