"""Everything that was found in the data, as a list: what, how many, which rows, what to do, a fix.

Finding and mending them is the backend's work.
"""

from markupsafe import Markup

from sft_ui import markup
from sft_ui.markup import WORDS
from trainer_backend.errors import Problem

ORDER = {"error": 0, "warning": 1, "info": 2}
SHOWN_ROWS = 8
MARKS = {"error": "✕", "warning": "!", "info": "i"}
SWITCH_WORDS = {
    "drop": "Leave these rows out",
    "keep_one": "Keep one of each",
    "trim": "Remove white space at the ends",
    "clean": "Remove the invisible characters",
}
CLEAN_BUTTON = Markup(
    '<div class="clean-line"><button type="button" class="action" data-clean="1" '
    'id="make-cleaned">Make a cleaned version</button><span class="quiet">'
    "The upload stays as it is; you can always go back to it.</span></div>"
)


def problem_list(problems: list[Problem]) -> Markup:
    """All findings, worst first, and the one button that uses the chosen fixes."""
    if not problems:
        return Markup(
            '<p class="all-good"><i aria-hidden="true">✓</i> Nothing was found to be wrong.</p>'
        )
    order = sorted(enumerate(problems), key=lambda one: ORDER.get(one[1].severity, 3))
    items = Markup().join(_finding(index, problem) for index, problem in order)
    button = CLEAN_BUTTON if any(_fixable(problem) for problem in problems) else ""
    template = Markup('<ul class="findings" aria-label="What was found">{}</ul>{}')
    return template.format(items, button)


def summary(problems: list[Problem]) -> str:
    """How much was found, in words."""
    counts = [sum(one.severity == kind for one in problems) for kind in ORDER]
    words = [("must be fixed", counts[0]), ("worth a look", counts[1]), ("good to know", counts[2])]
    return ", ".join(f"{count} {said}" for said, count in words if count)


def _fixable(problem: Problem) -> bool:
    return bool(problem.code and problem.switches)


def _finding(index: int, problem: Problem) -> Markup:
    severity = problem.severity if problem.severity in ORDER else "info"
    count = Markup('<span class="count">{}</span>').format(_rows_words(problem.count))
    head = Markup(
        '<div class="finding-head"><i aria-hidden="true">{}</i>'
        '<b><span class="visually-hidden">{}: </span>{}</b>{}</div>'
    ).format(MARKS[severity], WORDS[severity], problem.what, count if problem.count else "")
    rows = _rows(index, problem) or markup.line(problem.where, "where")
    template = Markup('<li class="finding {}">{}{}<p>{}</p>{}</li>')
    return template.format(severity, head, rows, problem.fix, _switch(problem))


def _rows_words(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _rows(index: int, problem: Problem) -> Markup:
    if not problem.rows:
        return Markup()
    numbers = markup.each(
        Markup('<button type="button" data-jump="{0}" aria-label="Go to row {0}">{0:,}</button>'),
        ((row,) for row in problem.rows[:SHOWN_ROWS]),
    )
    rest = problem.count - min(len(problem.rows), SHOWN_ROWS)
    more = Markup("<span>and {:,} more</span>").format(rest) if rest > 0 else ""
    every = "Show these rows" if problem.count > 1 else "Show this row"
    template = Markup(
        '<div class="finding-rows"><span>Rows</span>{}{}'
        '<button type="button" class="show" data-problem="{}">{}</button></div>'
    )
    return template.format(numbers, more, index, every)


def _switch(problem: Problem) -> Markup:
    if not _fixable(problem):
        return Markup()
    first = problem.switches[0] if problem.severity != "info" else ""
    choices = [("", "Leave as it is"), *((one, SWITCH_WORDS[one]) for one in problem.switches)]
    template = Markup('<select data-fix="{}" aria-label="Fix for: {}">{}</select>')
    return template.format(problem.code, problem.what, markup.options(choices, first))
