"""The report of a dataset as HTML: versions, totals, notes, downloads, and the list of problems.

Reads what is stored with the dataset; checks nothing itself.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from sft_ui import markup
from sft_ui.data.dataset_files import FORMATS, download_address
from sft_ui.markup import WORDS
from trainer_backend.data.checks import SEVERITY_ORDER
from trainer_backend.data.store import StoredDataset
from trainer_backend.data.store.dataset import STEPS
from trainer_backend.data.store.downloads import CSV_NOTE
from trainer_backend.errors import Problem

SHOWN_ROWS = 8
ASKING = ("columns_unclear", "unused_text", "preference_data")  # findings that are questions
MARKS = {"error": "✕", "warning": "!", "info": "i"}
SWITCH_WORDS = {
    "drop": "Drop these rows",
    "keep_one": "Keep one of each",
    "trim": "Trim surrounding whitespace",
    "clean": "Remove invisible characters",
    "join": "Join messages of one role",
}
CLEAN_BUTTON = Markup(
    '<div class="clean-line"><button type="button" class="action" data-clean="1" '
    'id="make-cleaned">Create a cleaned version</button><span class="quiet">'
    "Your upload is kept; you can always return to it.</span></div>"
)
CHOSEN_BUTTON = Markup(
    '<div class="clean-line"><button type="button" class="action" data-chosen="1" '
    'id="train-on-chosen">Train on the chosen answers</button><span class="quiet">'
    "The other answers are left out.</span></div>"
)


def report(
    dataset: StoredDataset | None,
    held_out: int,
    eval_fraction: float,
    versions: Sequence[Mapping[str, Any]] = (),
) -> Markup:
    """The report: what the dataset is, how many rows it has, and every problem, worst first.

    `held_out` counts examples; `eval_fraction` is the requested part of them.
    """
    if dataset is None:
        return markup.empty("No data yet", "Choose a file, try a sample, or type a few examples.")
    head = markup.card(
        dataset.name,
        version_line(versions),
        markup.line(dataset.sentence, "understood"),
        _other_columns(dataset),
        totals(_counts(dataset, held_out, eval_fraction)),
        _chosen(dataset),
        *(markup.line(note, "quiet") for note in dataset.notes),
        _downloads(dataset) if dataset.num_examples else "",
        kind=f"problem {_severity(dataset)}",
    )
    return markup.stack([head, _found(dataset)])


def _other_columns(dataset: StoredDataset) -> Markup | str:
    if dataset.mapping is None or dataset.step != "upload" or len(dataset.columns) < 2:
        return ""
    return markup.line("Not what you meant? Choose others below, under Column roles.", "quiet")


def _found(dataset: StoredDataset) -> Markup | str:
    """The problems; none while the column roles are unclear, which the report asks for first."""
    if dataset.mapping is None:
        return ""
    counts = markup.line(summary(dataset.problems), "quiet") if dataset.problems else ""
    return markup.card("Findings", counts, problem_list(dataset.problems), kind="found")


def _chosen(dataset: StoredDataset) -> Markup | str:
    """What to do while the columns are unclear, with the button for preference data."""
    if dataset.mapping is not None:
        return ""
    fix = without_terminal(dataset.problems[0].fix) if dataset.problems else ""
    advice = markup.line(fix) if fix else Markup()
    return (CHOSEN_BUTTON if dataset.chosen else Markup()) + advice


def without_terminal(fix: str) -> str:
    """An advice without what to write in a terminal, for which the page has pickers."""
    fix = re.sub(r" \(in the terminal: [^)]*\)", "", fix)
    return fix.partition(" In the terminal:")[0]


def _severity(dataset: StoredDataset) -> str:
    """Of the whole dataset: columns that are to be chosen are a question, no mistake."""
    if _is_ready(dataset):
        return "good"
    asked = dataset.mapping is None and dataset.problems[:1]
    return "warning" if asked and asked[0].code in ASKING else "error"


def _is_ready(dataset: StoredDataset) -> bool:
    return dataset.mapping is not None and dataset.num_examples > 0


def _counts(dataset: StoredDataset, held_out: int, eval_fraction: float) -> list[tuple[str, str]]:
    counts = [(f"{dataset.num_rows:,}", "rows")]
    if dataset.mapping is not None:
        counts.append((f"{dataset.num_examples:,}", "usable examples"))
    if _is_ready(dataset):
        counts.append((f"{dataset.num_examples - held_out:,}", "for training"))
        own = dataset.held_out["name"] if dataset.held_out else ""
        share = f", {eval_fraction:.0%} requested" if eval_fraction else ""
        how = f"held out (from {own})" if own else f"held out{share}"
        counts.append((f"{held_out:,}", how))
    return counts


def totals(counts: Sequence[tuple[str, str]]) -> Markup:
    """Large numbers, each with its label: (number, label)."""
    inside = markup.each(Markup("<div><b>{}</b> <span>{}</span></div>"), counts)
    return Markup('<div class="totals">{}</div>').format(inside)


def family(dataset: StoredDataset, stored: Sequence[StoredDataset]) -> list[dict[str, Any]]:
    """Stored versions of one upload, oldest first: {"id", "what", "rows", "done", "here"}."""
    before = {one.id: one.parent for one in [*stored, dataset]}

    def root(key: str) -> str:
        while (parent := before.get(key)) in before:
            key = parent
        return key

    mine = [one for one in stored if root(one.id) == root(dataset.id)]
    return [
        {
            "id": one.id,
            "what": STEPS.get(one.step, one.step),
            "rows": one.num_rows,
            "done": one.done or one.sentence,
            "here": one.id == dataset.id,
        }
        for one in sorted(mine, key=lambda one: (one.version, one.created_at))
    ]


def version_line(versions: Sequence[Mapping[str, Any]]) -> Markup | str:
    """Buttons for the versions of the data, oldest first; "" when there is only one."""
    if len(versions) < 2:
        return ""
    steps = Markup().join(_version(number, one) for number, one in enumerate(versions, start=1))
    return Markup('<nav class="versions" aria-label="Versions of this data">{}</nav>').format(steps)


def _version(number: int, one: Mapping[str, Any]) -> Markup:
    here = Markup(' aria-current="true"') if one["here"] else ""
    words = f"{number} · {one['what']} · {one['rows']:,} rows"
    template = Markup('<button type="button" data-open="{}"{} title="{}">{}</button>')
    return template.format(one["id"], here, one.get("done") or "", words)


def _downloads(dataset: StoredDataset) -> Markup:
    notes = {"csv": Markup(' title="{}"').format(CSV_NOTE)}
    links = markup.each(
        Markup('<a href="{}"{} download>{}</a>'),
        (
            (download_address(dataset.id, format), notes.get(format, ""), words)
            for format, words in FORMATS.items()
        ),
    )
    template = Markup('<div class="downloads"><span>Download this version:</span>{}</div>')
    return template.format(links)


def problem_list(problems: list[Problem]) -> Markup:
    """All problems, worst first, and the button that applies the chosen fixes."""
    if not problems:
        return Markup('<p class="all-good"><i aria-hidden="true">✓</i> No problems found.</p>')
    order = sorted(enumerate(problems), key=lambda one: SEVERITY_ORDER.get(one[1].severity, 3))
    items = Markup().join(_finding(index, problem) for index, problem in order)
    button = CLEAN_BUTTON if any(_fixable(problem) for problem in problems) else ""
    template = Markup('<ul class="findings" aria-label="Findings">{}</ul>{}')
    return template.format(items, button)


def summary(problems: list[Problem]) -> str:
    """The number of problems by severity, in words."""
    counts = [sum(one.severity == kind for one in problems) for kind in SEVERITY_ORDER]
    words = [("must be fixed", counts[0]), ("worth a look", counts[1]), ("good to know", counts[2])]
    return ", ".join(f"{count} {what}" for what, count in words if count)


def _fixable(problem: Problem) -> bool:
    return bool(problem.code and problem.switches)


def _finding(index: int, problem: Problem) -> Markup:
    severity = problem.severity if problem.severity in SEVERITY_ORDER else "info"
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
    choices = [("", "Leave as is"), *((one, SWITCH_WORDS[one]) for one in problem.switches)]
    template = Markup('<select data-fix="{}" aria-label="Fix for: {}">{}</select>')
    return template.format(problem.code, problem.what, markup.options(choices, first))
