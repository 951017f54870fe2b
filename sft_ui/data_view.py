"""What the Data tab shows of a dataset, as HTML: report, rows, one page of the table.

Reading files and finding problems is in trainer_backend/data.
"""

from trainer_backend.data.store import StoredDataset
from trainer_backend.errors import Problem

from . import cards

PAGE_ROWS = 25
MAX_COLUMNS = 12
ORDER = {"error": 0, "warning": 1, "info": 2}


def report(dataset: StoredDataset | None, held_out: int, eval_fraction: float) -> str:
    """The report card and every problem, worst first."""
    if dataset is None:
        return cards.empty(
            "No data yet", "Choose a file, try a sample, or type a few examples of your own."
        )
    head = cards.card(
        dataset.name,
        cards.line(dataset.sentence),
        cards.chips(_counts(dataset, held_out, eval_fraction)),
        kind="problem good" if _is_ready(dataset) else "problem error",
    )
    problems = sorted(dataset.problems, key=lambda problem: ORDER.get(problem.severity, 3))
    return cards.stack([head, *map(cards.problem_card, problems)])


def _is_ready(dataset: StoredDataset) -> bool:
    return dataset.mapping is not None and dataset.num_examples > 0


def _counts(dataset: StoredDataset, held_out: int, eval_fraction: float) -> list[str]:
    counts = [f"{dataset.num_rows:,} rows", f"{dataset.num_examples:,} usable examples"]
    if _is_ready(dataset):
        share = f" ({eval_fraction:.0%} asked for)" if eval_fraction else ""
        counts.append(f"{dataset.num_examples - held_out:,} to learn from")
        counts.append(f"{held_out:,} held out to measure{share}")
    return counts


def problem_choices(problems: list[Problem]) -> list[tuple[str, int]]:
    """Choices of the row filter: all rows, or the rows of one problem."""
    found = [
        (f"Rows with: {problem.what}"[:90], index)
        for index, problem in enumerate(problems)
        if problem.rows
    ]
    return [("All rows", -1), *found]


def rows_table(dataset: StoredDataset, rows: list[tuple[int, dict]], chosen: int | None) -> str:
    """One page of the user's rows; choosing one shows its tokens."""
    columns = dataset.columns[:MAX_COLUMNS]
    if not rows:
        return cards.empty("No rows here", "Nothing matches. Change the search or the filter.")
    table_rows = [
        (str(number), f"{number:,}", [cells.get(name) for name in columns])
        for number, cells in rows
    ]
    headers = ["Row", *columns]
    table = cards.table(
        "Rows of the data", headers, table_rows, str(chosen) if chosen is not None else ""
    )
    hidden = len(dataset.columns) - len(columns)
    note = cards.line(f"{hidden} more columns are not shown.", "quiet") if hidden > 0 else ""
    return f'<div class="card">{table}{note}</div>'


def page_line(start: int, num_shown: int, total: int) -> str:
    """Where the page is, in words."""
    if not total:
        return "No rows"
    return f"Rows {start + 1:,} to {start + num_shown:,} of {total:,}"
