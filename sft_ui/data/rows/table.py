"""The user's rows, a page at a time: search, filter, order, jump, and a picker in each header.

Reading pages is trainer_backend/data/store/pages.py; one row alone is row_card.py.
"""

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from sft_ui import markup
from sft_ui.data.reading.columns import picker, roles_of
from sft_ui.data.rows.card import Changes, pictures
from sft_ui.theme import static_text
from trainer_backend.data.store import StoredDataset, read_report
from trainer_backend.errors import Problem

PAGE_ROWS = 25
MAX_COLUMNS = 12
ALL, WITH_PROBLEMS, HELD_OUT, TOKENS = "all", "problems", "held_out", "tokens:"
SORTS = [
    ("As in the file", "row"),
    ("Longest first", "longest"),
    ("Shortest first", "shortest"),
    ("Longest answer first", "answer"),
]
SCRIPT = markup.PICK_SCRIPT + static_text("data/reading/column_roles.js")


@dataclass(frozen=True)
class View:
    """Which rows are looked for: text, filter, order, held-out share and seed."""

    query: str = ""
    show: str = ALL
    sort: str = "row"
    eval_fraction: float = 0.0
    seed: int = 0


def filter_choices(problems: list[Problem]) -> list[tuple[str, str]]:
    """Choices of the row filter: all rows, rows with any problem, held-out rows, each problem."""
    found = [
        (f"Rows with: {problem.what}"[:90], str(index))
        for index, problem in enumerate(problems)
        if problem.rows
    ]
    some = [("Only rows with problems", WITH_PROBLEMS)] if found else []
    return [("All rows", ALL), *some, ("Held-out rows", HELD_OUT), *found]


def rows_shown(dataset: StoredDataset, view: View) -> list[int] | np.ndarray | None:
    """The numbers of the rows a filter lets through; None for all."""
    if view.show == WITH_PROBLEMS:
        return dataset.rows_with_problems()
    if view.show == HELD_OUT:
        return dataset.held_out_rows(view.eval_fraction, view.seed) if dataset.num_examples else []
    if view.show.startswith(TOKENS):
        return rows_of_count(dataset, view.show)
    if view.show.isdecimal() and int(view.show) < len(dataset.problems):
        return dataset.rows_of(int(view.show))
    return None


def count_filter(count: str, code: str, limit: int) -> str:
    """The filter of the rows that a limit on the tokens concerns."""
    return f"{TOKENS}{count}:{code}:{limit}"


def rows_of_count(dataset: StoredDataset, show: str) -> list[int]:
    """The rows of one finding of a token count. Raises UserError when it is gone."""
    count, code, limit = show.removeprefix(TOKENS).split(":")
    found = read_report(dataset.dir, count).problems(int(limit), dataset.name)
    return [int(row) for problem, rows in found if problem.code == code for row in rows]


def page(dataset: StoredDataset, start: int, view: View) -> tuple[list[tuple[int, dict]], int, int]:
    """One page as (rows, how many match, first row shown); never leaves the data."""
    only, start = rows_shown(dataset, view), max(0, start)
    query, sort = view.query or "", view.sort
    found = (query, only, sort, markup.MAX_CELL + 1)
    rows, total = dataset.page(start, PAGE_ROWS, *found)
    if not rows and total:
        start = (total - 1) // PAGE_ROWS * PAGE_ROWS
        rows, total = dataset.page(start, PAGE_ROWS, *found)
    return rows, total, start


def start_of(dataset: StoredDataset, row: int, view: View) -> int | None:
    """Where the page begins that holds a row; None if the row is not among those looked for."""
    place = dataset.place_of(row, view.query or "", rows_shown(dataset, view), view.sort)
    return None if place is None else place // PAGE_ROWS * PAGE_ROWS


def rows_table(
    dataset: StoredDataset,
    rows: list[tuple[int, dict]],
    chosen: int | None,
    roles: dict[str, str] | None = None,
    changes: Changes | None = None,
) -> Markup:
    """One page of rows; choosing one shows it as tokens, the headers say what columns mean.

    `roles` and `changes` are what the user chose and changed on the page but did not use yet.
    """
    changes = changes or Changes(dataset.id)
    columns = dataset.columns[:MAX_COLUMNS]
    role_of = {
        column: role for role, column in (roles_of(dataset) if roles is None else roles).items()
    }
    if not rows:
        nothing = markup.empty("No rows here", "Nothing matches. Change the search or the filter.")
        return Markup('<div class="card rows">{}</div>').format(nothing)
    head = Markup('<th scope="col">Row</th>') + markup.each(
        Markup('<th scope="col"><span>{}</span>{}</th>'),
        ((name, picker(name, role_of.get(name, ""))) for name in columns),
    )
    body = (
        _row(number, _with_pictures(dataset, number, cells), columns, number == chosen, changes)
        for number, cells in rows
    )
    hidden = len(dataset.columns) - len(columns)
    note = markup.line(f"{hidden} more columns are not shown.", "quiet") if hidden > 0 else ""
    table = markup.scroll_table("Rows of the data", head, body)
    return Markup('<div class="card rows">{}{}</div>').format(table, note)


def _with_pictures(dataset: StoredDataset, number: int, cells: dict[str, str]) -> dict:
    """The cells with small pictures in the column that holds them."""
    column = dataset.mapping.roles.get("images") if dataset.mapping else None
    images = pictures(dataset, number) if column in cells else ""
    if not images:
        return cells
    return {**cells, column: Markup('<div class="cell-pictures">{}</div>').format(images)}


def _row(
    number: int, cells: dict[str, str], columns: list[str], is_chosen: bool, changes: Changes
) -> Markup:
    edited = changes.edits.get(number, {})
    mark = "dropped" if number in changes.drops else "edited" if edited else ""
    shown = [edited.get(name, cells.get(name)) for name in columns]
    return markup.pick_row(str(number), f"{number:,}", shown, is_chosen, mark)


def page_line(start: int, num_shown: int, total: int, num_rows: int) -> str:
    """Where the page is, in words."""
    if not total:
        return "No rows"
    some = f" found of {num_rows:,}" if total != num_rows else ""
    return f"Rows {start + 1:,} to {start + num_shown:,} of {total:,}{some}"
