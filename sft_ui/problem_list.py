"""Everything that was found in the data, as a list: what, how many, which rows, what to do, a fix.

Finding problems is trainer_backend/data/checks.py, mending them trainer_backend/data/versions.py.
"""

from html import escape

from trainer_backend.errors import Problem

from .cards import WORDS

ORDER = {"error": 0, "warning": 1, "info": 2}
SHOWN_ROWS = 8
MARKS = {"error": "✕", "warning": "!", "info": "i"}
SWITCH_WORDS = {
    "drop": "Leave these rows out",
    "keep_one": "Keep one of each",
    "trim": "Remove white space at the ends",
    "clean": "Remove the invisible characters",
}


def problem_list(problems: list[Problem]) -> str:
    """All findings, worst first, and the one button that uses the chosen fixes."""
    if not problems:
        return '<p class="all-good"><i aria-hidden="true">✓</i> Nothing was found to be wrong.</p>'
    order = sorted(enumerate(problems), key=lambda one: ORDER.get(one[1].severity, 3))
    items = "".join(_finding(index, problem) for index, problem in order)
    button = _clean_button() if any(_fixable(problem) for problem in problems) else ""
    return f'<ul class="findings" aria-label="What was found">{items}</ul>{button}'


def summary(problems: list[Problem]) -> str:
    """How much was found, in words."""
    counts = [sum(one.severity == kind for one in problems) for kind in ORDER]
    words = [("must be fixed", counts[0]), ("worth a look", counts[1]), ("good to know", counts[2])]
    return ", ".join(f"{count} {said}" for said, count in words if count)


def _fixable(problem: Problem) -> bool:
    return bool(problem.code and problem.switches)


def _finding(index: int, problem: Problem) -> str:
    severity = problem.severity if problem.severity in ORDER else "info"
    count = f'<span class="count">{_rows_words(problem.count)}</span>' if problem.count else ""
    word = f'<span class="visually-hidden">{escape(WORDS[severity])}: </span>'
    head = (
        f'<div class="finding-head"><i aria-hidden="true">{MARKS[severity]}</i>'
        f"<b>{word}{escape(problem.what)}</b>{count}</div>"
    )
    rows = _rows(index, problem) or f'<p class="where">{escape(problem.where)}</p>'
    fix = f"<p>{escape(problem.fix)}</p>"
    return f'<li class="finding {severity}">{head}{rows}{fix}{_switch(problem)}</li>'


def _rows_words(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _rows(index: int, problem: Problem) -> str:
    if not problem.rows:
        return ""
    numbers = "".join(
        f'<button type="button" data-jump="{row}" aria-label="Go to row {row}">{row:,}</button>'
        for row in problem.rows[:SHOWN_ROWS]
    )
    rest = problem.count - min(len(problem.rows), SHOWN_ROWS)
    more = f"<span>and {rest:,} more</span>" if rest > 0 else ""
    every = "Show these rows" if problem.count > 1 else "Show this row"
    show = f'<button type="button" class="show" data-problem="{index}">{every}</button>'
    return f'<div class="finding-rows"><span>Rows</span>{numbers}{more}{show}</div>'


def _switch(problem: Problem) -> str:
    if not _fixable(problem):
        return ""
    first = problem.switches[0] if problem.severity != "info" else ""
    options = [("", "Leave as it is"), *((one, SWITCH_WORDS[one]) for one in problem.switches)]
    inside = "".join(
        f'<option value="{value}"{" selected" if value == first else ""}>{escape(words)}</option>'
        for value, words in options
    )
    label = escape(f"Fix for: {problem.what}")
    code = escape(problem.code)
    return f'<select data-fix="{code}" aria-label="{label}">{inside}</select>'


def _clean_button() -> str:
    said = "The upload stays as it is; you can always go back to it."
    return (
        '<div class="clean-line"><button type="button" class="action" data-clean="1" '
        f'id="make-cleaned">Make a cleaned version</button><span class="quiet">{said}</span></div>'
    )
