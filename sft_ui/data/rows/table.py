"""The rows of a dataset, one page at a time: search, filter, sort, and a role picker per column.

Asks the dataset for pages; never reads its files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from markupsafe import Markup

from sft_ui import markup
from sft_ui.data.reading.columns import ROLE_WORDS, picker, roles_of
from sft_ui.data.rows.card import Changes, row_images
from sft_ui.data.rows.chats import chat_cell, marked, tool_names
from sft_ui.theme import static_text
from trainer_backend.data.store import StoredDataset, read_report
from trainer_backend.errors import Problem

PAGE_ROWS = 25
MAX_COLUMNS = 12
SEARCHED_CHARS = 20_000  # of a cell, so that a hit far inside it is shown
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
    """Which rows to show: search text, filter, order, and the split (share, seed) for HELD_OUT."""

    query: str = ""
    show: str = ALL
    sort: str = "row"
    eval_fraction: float = 0.0
    seed: int = 0


def filter_choices(problems: Sequence[Problem]) -> list[tuple[str, str]]:
    """(text, value) choices of the filter: all, any problem, held-out, each problem."""
    found = [
        (f"Rows with: {problem.what}"[:90], str(index))
        for index, problem in enumerate(problems)
        if problem.rows
    ]
    some = [("Only rows with problems", WITH_PROBLEMS)] if found else []
    return [("All rows", ALL), *some, ("Held-out rows", HELD_OUT), *found]


def rows_shown(dataset: StoredDataset, view: View) -> Sequence[int] | None:
    """The row numbers that pass the filter; None for all."""
    if view.show == WITH_PROBLEMS:
        # an array of row numbers, which numpy does not declare to be a Sequence
        return cast(Sequence[int], dataset.rows_with_problems())
    if view.show == HELD_OUT:
        return dataset.held_out_rows(view.eval_fraction, view.seed) if dataset.num_examples else []
    if view.show.startswith(TOKENS):
        return rows_of_count(dataset, view.show)
    if view.show.isdecimal() and int(view.show) < len(dataset.problems):
        return dataset.rows_of(int(view.show))
    return None


def count_filter(count: str, code: str, limit: int) -> str:
    """The filter value for the rows of one finding about token lengths at a limit."""
    return f"{TOKENS}{count}:{code}:{limit}"


def rows_of_count(dataset: StoredDataset, show: str) -> list[int]:
    """The row numbers of a `count_filter`. Raises UserError when the token count is gone."""
    count, code, limit = show.removeprefix(TOKENS).split(":")
    found = read_report(dataset.dir, count).problems(int(limit), dataset.name)
    return [int(row) for problem, rows in found if problem.code == code for row in rows]


def page(dataset: StoredDataset, start: int, view: View) -> tuple[list[tuple[int, dict]], int, int]:
    """(rows, number of matches, start) of a page; a start past the end shows the last page."""
    only, start = rows_shown(dataset, view), max(0, start)
    max_chars = SEARCHED_CHARS if view.query.strip() else markup.MAX_CELL + 1
    rows, total = dataset.page(start, PAGE_ROWS, view.query, only, view.sort, max_chars)
    if not rows and total:
        start = (total - 1) // PAGE_ROWS * PAGE_ROWS
        rows, total = dataset.page(start, PAGE_ROWS, view.query, only, view.sort, max_chars)
    return rows, total, start


def start_of(dataset: StoredDataset, row: int, view: View) -> int | None:
    """The start of the page with a row; None if the row does not match the view."""
    place = dataset.place_of(row, view.query, rows_shown(dataset, view), view.sort)
    return None if place is None else place // PAGE_ROWS * PAGE_ROWS


def ordered_columns(dataset: StoredDataset, roles: Mapping[str, str]) -> list[str]:
    """The columns in use first, in the order of their roles, then the others as in the file."""
    used = [roles[role] for role in ROLE_WORDS if roles.get(role) in dataset.columns]
    return [*used, *(name for name in dataset.columns if name not in used)]


def rows_table(  # noqa: PLR0913 - everything a page of rows shows
    dataset: StoredDataset,
    rows: Sequence[tuple[int, dict]],
    chosen: int | None,
    roles: Mapping[str, str] | None = None,
    changes: Changes | None = None,
    query: str = "",
) -> Markup:
    """One page of rows, with the role pickers in its header.

    `roles` ({role: column}) and `changes` are the user's choices that are not applied yet; hits of
    `query` are marked.
    """
    changes = changes or Changes(dataset.id)
    columns = ordered_columns(dataset, roles_of(dataset))[:MAX_COLUMNS]
    role_of = {column: role for role, column in roles_of(dataset, roles).items()}
    if not rows:
        nothing = markup.empty("No rows", "Nothing matches. Change the search or the filter.")
        return Markup('<div class="card rows">{}</div>').format(nothing)
    head = Markup('<th scope="col">Row</th>') + markup.each(
        Markup('<th scope="col"><span>{}</span>{}</th>'),
        ((name, picker(name, role_of.get(name, ""))) for name in columns),
    )
    chats = chats_of(dataset, [number for number, _ in rows], query)
    body = (
        _row(
            number,
            _with_images(dataset, number, {**_searched(cells, query), **chats.get(number, {})}),
            columns,
            number == chosen,
            changes,
        )
        for number, cells in rows
    )
    hidden = len(dataset.columns) - len(columns)
    more = "1 more column is" if hidden == 1 else f"{hidden} more columns are"
    note = markup.line(f"{more} not shown.", "quiet") if hidden > 0 else ""
    table = markup.scroll_table("Rows of the data", head, body)
    return Markup('<div class="card rows">{}{}</div>').format(table, note)


def chats_of(dataset: StoredDataset, numbers: Sequence[int], query: str) -> dict[int, dict]:
    """{row: {column: the conversation as bubbles}}, for the rows that hold conversations."""
    mapping = dataset.mapping
    names = {
        one.roles["messages"]
        for one in ((mapping, *mapping.also) if mapping else ())
        if "messages" in one.roles
    }
    if not names:
        return {}
    tools = mapping.roles.get("tools") if mapping else None
    cells: dict[int, dict] = {}
    for number, example in dataset.examples_of(numbers).items():
        if example.messages:
            chat = Markup('<div class="cell">{}</div>').format(chat_cell(example, query))
            cells[number] = dict.fromkeys(names, chat)
        if tools and example.tools:
            cells.setdefault(number, {})[tools] = tool_names(example.tools)
    return cells


def _searched(cells: dict[str, Any], query: str) -> dict[str, Any]:
    """The cells with the hits of a search marked."""
    if not query.strip():
        return cells
    return {name: _hits(text, query) for name, text in cells.items()}


def _hits(text: Any, query: str) -> Any:
    if not isinstance(text, str):
        return text
    found = marked(text, query, markup.MAX_CELL)
    return Markup('<div class="cell">{}</div>').format(found) if text else text


def _with_images(dataset: StoredDataset, number: int, cells: dict[str, Any]) -> dict[str, Any]:
    """The cells with thumbnails in the column that holds images."""
    column = dataset.mapping.roles.get("images") if dataset.mapping else None
    images = row_images(dataset, number) if column in cells else ""
    if column is None or not images:
        return cells
    return {**cells, column: Markup('<div class="cell-images">{}</div>').format(images)}


def _row(
    number: int, cells: dict[str, Any], columns: list[str], is_chosen: bool, changes: Changes
) -> Markup:
    edited = changes.edits.get(number, {})
    mark = "dropped" if number in changes.drops else "edited" if edited else ""
    shown = [edited.get(name, cells.get(name)) for name in columns]
    return markup.pick_row(str(number), f"{number:,}", shown, is_chosen, mark)


def page_line(start: int, num_shown: int, total: int, num_rows: int) -> str:
    """The position of the page: “Rows 1 to 25 of 60”."""
    if not total:
        return "No rows"
    some = f" matching, {num_rows:,} in all" if total != num_rows else ""
    return f"Rows {start + 1:,} to {start + num_shown:,} of {total:,}{some}"
