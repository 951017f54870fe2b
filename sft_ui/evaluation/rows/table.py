"""The rows of an evaluation as the page lists them: order, filter, pages, marked differences.

Reads results; knows no components.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any

from sft_ui.evaluation.rows.correction import correction_of
from sft_ui.evaluation.rows.differences import Piece, differences, excerpt
from sft_ui.evaluation.words import is_wrong, score_words
from trainer_backend.evaluation.results import LOSSES, Asked, Evaluation
from trainer_backend.evaluation.shown import GRADED

PAGE, MOST_ROWS = 40, 500
CELL_CHARS = 420
DETAIL_CHARS = 20_000
ORDERS = ("row", "base", "tuned", "change")
SIDES = ("base", "tuned")


@dataclass(frozen=True)
class View:
    """Which rows are shown and in which order.

    `by` is one of ORDERS: the row, the score of base or tuned, or what training changed of it.
    """

    measure: str
    by: str = "tuned"
    falls: bool = False
    wrong: bool = False
    changed: bool = False
    start: int = 0
    size: int = PAGE


def view_of(evaluation: Evaluation, asked: Mapping[str, Any]) -> View:
    """The view that a page asks for; what cannot be is replaced by the default: worst first."""
    known = measures_of(evaluation)
    measure = asked.get("measure")
    measure = measure if measure in known else default_measure(evaluation)
    by = asked.get("by") if asked.get("by") in ORDERS else "tuned"
    start, size = _count(asked.get("start"), 0), _count(asked.get("size"), PAGE)
    flags = {name: bool(asked.get(name)) for name in ("falls", "wrong", "changed")}
    return View(str(measure), str(by), start=start, size=min(max(1, size), MOST_ROWS), **flags)


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) and value >= 0 else otherwise


def measures_of(evaluation: Evaluation) -> list[str]:
    """The measures that rows have a score of, in the order of the result, the main one first."""
    found = {name for one in evaluation.examples for name in one.scores}
    names = [name for name in evaluation.metrics if name in found and name not in LOSSES]
    return sorted(names, key=lambda name: name != evaluation.main)


def default_measure(evaluation: Evaluation) -> str:
    """The measure by which rows are ordered at first; "" when rows have no scores."""
    return next(iter(measures_of(evaluation)), "")


def score(one: Asked, measure: str, side: str) -> float | None:
    """The score of one answer; None where the measure does not apply."""
    value = one.scores.get(measure, {}).get(side)
    return float(value) if isinstance(value, int | float) else None


def change(one: Asked, measure: str) -> float | None:
    """What training changed of a row's score; None where there is no score."""
    base, tuned = (score(one, measure, side) for side in SIDES)
    return None if base is None or tuned is None else tuned - base


def shown_rows(evaluation: Evaluation, view: View) -> list[int]:
    """The places of the rows that the view shows, in its order; rows without a score come last."""
    kept = [at for at, one in enumerate(evaluation.examples) if _is_kept(one, view)]
    return sorted(kept, key=lambda at: _key(evaluation.examples[at], view))


def _is_kept(one: Asked, view: View) -> bool:
    if view.wrong and not is_wrong(view.measure, score(one, view.measure, "tuned")):
        return False
    return not view.changed or one.base.strip() != one.tuned.strip()


def _key(one: Asked, view: View) -> tuple[float, float, int]:
    if view.by == "row":
        return (0.0, 0.0, -one.row if view.falls else one.row)
    value = change(one, view.measure) if view.by == "change" else score(one, view.measure, view.by)
    if value is None:
        return (inf, 0.0, one.row)
    gained = change(one, view.measure) or 0.0  # of equally bad rows, what got worse comes first
    return (-value if view.falls else value, gained, one.row)


def page_of(evaluation: Evaluation, view: View) -> dict[str, Any]:
    """One page of the table: {"total", "of", "start", "measure", "rows"}."""
    places = shown_rows(evaluation, view)
    start = view.start if view.start < len(places) else 0
    shown = places[start : start + view.size]
    return {
        "total": len(places),
        "of": len(evaluation.examples),
        "start": start,
        "measure": view.measure,
        "rows": [_row(evaluation, at, view.measure) for at in shown],
    }


def _row(evaluation: Evaluation, at: int, measure: str) -> dict[str, Any]:
    one = evaluation.examples[at]
    return {
        "at": at,
        "row": one.row,
        "prompt": cut(one.prompt, CELL_CHARS),
        "expected": cut(one.expected, CELL_CHARS),
        **{side: excerpt(compared(one, side), CELL_CHARS) for side in SIDES},
        "scores": {side: shown_score(one, measure, side) for side in SIDES},
        "marks": {side: marks_of(one, side) for side in (*SIDES, "prompt")},
    }


def compared(one: Asked, side: str) -> tuple[Piece, ...]:
    """The answer of a side with its differences from the expected one."""
    return differences(one.expected, getattr(one, side))


def shown_score(one: Asked, measure: str, side: str) -> dict[str, Any] | None:
    """A score in words, and whether the answer counts as wrong; None without a score.

    A graded score below 1 is neither right nor wrong to a reader.
    """
    value = score(one, measure, side)
    if value is None:
        return None
    is_graded = measure in GRADED and value < 1
    wrong = is_wrong(measure, value)
    return {"text": score_words(measure, value), "wrong": wrong, "graded": is_graded}


def marks_of(one: Asked, side: str) -> list[str]:
    """What must be known of an answer, or of the prompt, in words."""
    said = one.marks.get(side, {})
    if side != "prompt":
        return ["cut at the limit of tokens"] if said.get("cut") else []
    pictures = max((_pictures(facts.get("images")) for facts in one.marks.values()), default=0)
    return [f"with {pictures} pictures" if pictures > 1 else "with 1 picture"] if pictures else []


def _pictures(value: object) -> int:
    return len(value) if isinstance(value, list) else int(value) if isinstance(value, int) else 0


def detail_of(evaluation: Evaluation, at: int) -> dict[str, Any]:
    """A row in full: its conversation, tools, answers, reasoning and all its scores."""
    one = evaluation.examples[at]
    return {
        "at": at,
        "row": one.row,
        "turns": [turn_of(message) for message in one.messages] or [_asked(one.prompt)],
        "tools": one.tools,
        "expected": cut(one.expected, DETAIL_CHARS),
        **{side: excerpt(compared(one, side), DETAIL_CHARS) for side in SIDES},
        "marks": {side: marks_of(one, side) for side in (*SIDES, "prompt")},
        "reasoning": {side: _reasoning(one, side) for side in ("expected", *SIDES)},
        "scores": {
            name: {side: shown_score(one, name, side) for side in SIDES}
            for name in measures_of(evaluation)
            if name in one.scores
        },
        "correction": correction_of(evaluation, one),
    }


def _reasoning(one: Asked, side: str) -> str:
    return cut(str(one.marks.get(side, {}).get("reasoning") or ""), DETAIL_CHARS)


def _asked(prompt: str) -> dict[str, Any]:
    return {"role": "user", "text": prompt, "thought": "", "calls": []}


def turn_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as a turn: {"role", "text", "thought", "calls": [{"name", "arguments"}]}."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(str(one.get("text") or "") for one in content if isinstance(one, dict))
    calls = [one for one in message.get("tool_calls") or () if isinstance(one, dict)]
    called = [one.get("function", one) for one in calls]
    return {
        "role": str(message.get("role", "user")),
        "text": cut(str(content or ""), DETAIL_CHARS),
        "thought": cut(str(message.get("reasoning_content") or ""), DETAIL_CHARS),
        "calls": [{name: one.get(name) for name in ("name", "arguments")} for one in called],
    }


def cut(text: str, length: int) -> str:
    """At most `length` characters; “…” says that more follows."""
    return text if len(text) <= length else text[:length] + "…"
