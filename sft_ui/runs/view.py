"""Which runs the table shows, and in which order: filter by text, state and tag, sort by a column.

Works on rows that are read already.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sft_ui.run_words import state_words
from sft_ui.runs.score import Score
from trainer_backend.runs import LIVE

ALL_STATES, ALL_TAGS = "", ""
STATES = [
    ("All states", ALL_STATES),
    ("Under way", "live"),
    ("Finished", "finished"),
    ("Stopped", "stopped"),
    ("Failed", "failed"),
]
STOPPED = ("paused", "stopped")


@dataclass(frozen=True)
class Row:
    """One run in the table: its summary, its score, and whether its sweep has no better one."""

    summary: Mapping[str, Any]
    score: Score = field(default_factory=Score)
    is_best: bool = False


@dataclass(frozen=True)
class View:
    """What a page asks for; `sort` is a column, with a “-” before it for the largest first."""

    text: str = ""
    state: str = ALL_STATES
    tag: str = ALL_TAGS
    sort: str = "-started"

    @property
    def is_filtered(self) -> bool:
        return bool(self.text.strip() or self.state or self.tag)


def _number(name: str) -> Callable[[Row], float | None]:
    return lambda row: row.summary.get(name)


def _words(name: str) -> Callable[[Row], str]:
    return lambda row: str(row.summary.get(name) or "").casefold()


KEYS: dict[str, Callable[[Row], Any]] = {
    "name": _words("name"),
    "state": lambda row: state_words(row.summary).casefold(),
    "score": lambda row: row.score.order if row.score.order[0] else None,
    "eval_loss": _number("eval_loss"),
    "loss": _number("loss"),
    "steps": _number("step"),
    "time": _number("elapsed_seconds"),
    "started": _number("created_at"),
}


def shown_rows(rows: Iterable[Row], view: View) -> list[Row]:
    """The rows that the filter lets through, in order; rows without a value come last."""
    found = [row for row in rows if _is_wanted(row, view)]
    column, descending = view.sort.lstrip("-"), view.sort.startswith("-")
    key = KEYS.get(column, KEYS["started"])
    known = [row for row in found if key(row) is not None]
    rest = [row for row in found if key(row) is None]
    return [*sorted(known, key=key, reverse=descending), *rest]


def _is_wanted(row: Row, view: View) -> bool:
    one = row.summary
    if view.tag and view.tag.casefold() not in (tag.casefold() for tag in one.get("tags") or ()):
        return False
    if view.state and not _has_state(one["state"], view.state):
        return False
    fields = ("id", "name", "base_model", "dataset", "notes", "preset")
    texts = [str(one.get(name) or "") for name in fields] + list(one.get("tags") or ())
    haystack = "\n".join([*texts, state_words(one), row.score.text]).casefold()
    return all(word in haystack for word in view.text.casefold().split())


def _has_state(state: str, wanted: str) -> bool:
    if wanted == "live":
        return state in LIVE
    return state in STOPPED if wanted == "stopped" else state == wanted


def all_tags(rows: Iterable[Row]) -> list[str]:
    """The tags in use, in alphabetical order; one that differs in case only is listed once."""
    tags = {tag.casefold(): tag for row in rows for tag in row.summary.get("tags") or ()}
    return [tags[key] for key in sorted(tags)]


def next_sort(now: str, column: str, largest_first: Sequence[str]) -> str:
    """The sort after a press on a column's head: its natural direction first, then the other."""
    if now.lstrip("-") == column:
        return column if now.startswith("-") else f"-{column}"
    return f"-{column}" if column in largest_first else column
