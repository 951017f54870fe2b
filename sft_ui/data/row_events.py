"""The browser of rows: pages, search, jumps, the row that is picked and how it reads as tokens.

How a page looks is row_table.py, one row row_card.py; what a dataset shows is data_wiring.py.
"""

import gradio as gr

from sft_ui import markup
from sft_ui.alerts import attempt, show_user_errors
from sft_ui.context import PRIVATE, QUICK, Studio
from sft_ui.data.lengths.feed import LengthFeed
from sft_ui.data.rows import table as row_table
from sft_ui.data.rows import tokens as token_view
from sft_ui.data.rows.card import Changes, changes_bar, read_changes, row_card
from sft_ui.data.rows.tokens import pack_strip, packed_with
from sft_ui.data.tab import DataTab
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError

# On a phone the tokens stand below the table: bring them into view.
SHOW_TOKENS = """() => {
  if (innerWidth < 720) document.querySelector('#token-view')?.scrollIntoView({ block: 'start' });
}"""
SHOW_ROWS = "() => document.querySelector('#row-search')?.scrollIntoView({ block: 'start' })"
# A row shown as tokens is out of date when one of these changes.
TOKEN_FIELDS = ("base_model", "max_length", "assistant_only_loss", "system_prompt")


def wire_rows(studio: Studio, tab: DataTab, given: dict, fields: dict) -> None:
    """Connect the finders, the table, the card of a row and its tokens."""
    _wire_pages(studio, tab)
    _wire_pick(studio, tab, given, fields)


def _wire_pages(studio: Studio, tab: DataTab) -> None:
    rows = tab.rows
    shown = [rows.preview, rows.line, rows.start]
    find = [rows.search, rows.filter, rows.sort, tab.share]
    asked = [tab.dataset_id, rows.start, rows.changes, tab.mapper.roles, rows.row, *find]

    def turn(step: int | None):
        @show_user_errors
        def turned(dataset_id, start, kept, roles, row, *found):
            first = 0 if step is None else start + step
            changes = read_changes(kept, dataset_id)
            view = view_of(*found)
            return show_page(studio, dataset_id, first, view, changes, roles=roles, row=row)

        return turned

    first_page = turn(None)
    rows.back.click(turn(-row_table.PAGE_ROWS), asked, shown, **QUICK)
    rows.on.click(turn(row_table.PAGE_ROWS), asked, shown, **QUICK)
    rows.search.submit(first_page, asked, shown, **QUICK)
    rows.search.blur(first_page, asked, shown, **QUICK)
    rows.filter.input(first_page, asked, shown, **QUICK)
    rows.sort.input(first_page, asked, shown, **QUICK)

    @show_user_errors
    def changed(dataset_id, start, kept, roles, row, *found):
        changes = read_changes(kept, dataset_id)
        page = show_page(studio, dataset_id, start, view_of(*found), changes, roles=roles, row=row)
        return [*page, changes_bar(changes), shown_row(studio, dataset_id, row, changes)]

    rows.changes.change(changed, asked, [*shown, rows.changes_bar, rows.card], **QUICK)
    _wire_jumps(studio, tab, shown)


def _wire_jumps(studio: Studio, tab: DataTab, shown: list) -> None:
    rows = tab.rows
    cleared = [*shown, rows.search, rows.filter, rows.sort]
    given = [tab.dataset_id, rows.changes, tab.mapper.roles, tab.share]

    def jump_to(dataset_id, kept, roles, share, number):
        dataset = open_dataset(studio.home, dataset_id)
        view, changes = view_of("", row_table.ALL, "row", share), read_changes(kept, dataset_id)
        start = row_table.start_of(dataset, number, view)
        if start is None:
            fix = "Write a number that stands in the first column of the table."
            raise UserError(f"There is no row {number:,}.", dataset.name, fix)
        page = show_page(studio, dataset_id, start, view, changes, roles=roles, row=number)
        return [*page, "", row_table.ALL, "row"]

    @show_user_errors
    def go(dataset_id, kept, roles, share, text):
        number = str(text).replace(",", "").strip()
        if not number.isdecimal():
            return [gr.skip()] * len(cleared)
        return jump_to(dataset_id, kept, roles, share, int(number))

    @show_user_errors
    def jump(event: gr.EventData, dataset_id, kept, roles, share):
        return jump_to(dataset_id, kept, roles, share, int(event.row))

    def only(show: str):
        @show_user_errors
        def shown_only(event: gr.EventData, dataset_id, kept, roles, share):
            which = show or str(int(event.problem))
            view = view_of("", which, "row", share)
            changes = read_changes(kept, dataset_id)
            return [*show_page(studio, dataset_id, 0, view, changes, roles=roles), "", which, "row"]

        return shown_only

    @show_user_errors
    def over_limit(event: gr.EventData, dataset_id, kept, roles, share):
        dataset = open_dataset(studio.home, dataset_id)
        which = row_table.count_filter(str(event.count), str(event.code), int(event.limit))
        page = show_page(studio, dataset_id, 0, view_of("", which, "row", share), roles=roles)
        words = f"Rows too long for {int(event.limit):,} tokens"
        choices = [*row_table.filter_choices(dataset.problems), (words, which)]
        return [*page, "", gr.update(choices=choices, value=which), "row"]

    rows.go_to.submit(go, [*given, rows.go_to], cleared, **QUICK)
    for event, handler in (
        (tab.report.jump, jump),
        (tab.report.rows, only("")),
        (tab.lengths.rows, over_limit),
        (tab.held_out.show.click, only(row_table.HELD_OUT)),
    ):
        done = event(handler, given, cleared, **QUICK)
        done.then(None, None, None, js=SHOW_ROWS, **PRIVATE)


def view_of(query: str, show: str, sort: str, share: list) -> row_table.View:
    """What the finders ask for, as plain data."""
    fraction, seed = share if isinstance(share, list) and len(share) == 2 else (0.0, 0)
    return row_table.View(query or "", str(show), str(sort), float(fraction), int(seed))


def show_page(  # noqa: PLR0913 - what a page of rows depends on
    studio: Studio,
    dataset_id: str,
    start: int,
    view: row_table.View,
    changes: Changes | None = None,
    *,
    roles: dict | None = None,
    row: int | None = None,
) -> tuple[str, str, int]:
    """One page of rows: (table, where we are, first row shown)."""
    if not dataset_id:
        return "", "", 0
    dataset = open_dataset(studio.home, dataset_id)
    rows, total, start = row_table.page(dataset, start, view)
    where = row_table.page_line(start, len(rows), total, dataset.num_rows)
    table = row_table.rows_table(dataset, rows, row, roles, changes)
    return table, markup.line(where, "quiet"), start


def _wire_pick(studio: Studio, tab: DataTab, given: dict, fields: dict) -> None:
    rows = tab.rows

    @show_user_errors
    def card(event: gr.EventData, dataset_id, kept):
        row = picked_row(event)
        return row, shown_row(studio, dataset_id, row, read_changes(kept, dataset_id))

    def tokens(event: gr.EventData, dataset_id: str, **values):
        return show_tokens(studio, dataset_id, picked_row(event), values, tab.feed)

    rows.preview.pick(card, [tab.dataset_id, rows.changes], [rows.row, rows.card], **QUICK)
    picked = rows.preview.pick(
        tokens, inputs_kwargs=given, outputs=tab.tokens, concurrency_limit=4, **PRIVATE
    )
    picked.then(None, None, None, js=SHOW_TOKENS, **PRIVATE)
    deciding = [fields[name] for name in TOKEN_FIELDS]
    changed = [f.change if isinstance(f, gr.Textbox) else f.input for f in deciding]
    gr.on(changed, token_view.hint, None, tab.tokens, **QUICK)


def picked_row(event: gr.EventData) -> int:
    """The row number of a pick; 0 for anything else."""
    return int(event.id) if str(event.id).isdecimal() else 0


def shown_row(studio: Studio, dataset_id: str, row: int | None, changes: Changes) -> str:
    """The card of one row; nothing if there is no such row."""
    if not dataset_id or not row:
        return ""
    dataset = open_dataset(studio.home, dataset_id)
    place = dataset.place_of(row)
    found = dataset.page(place, 1)[0] if place is not None else []
    return row_card(dataset, row, found[0][1], changes) if found else ""


def show_tokens(
    studio: Studio, dataset_id: str, row: int, values: dict, feed: LengthFeed | None = None
) -> str:
    """One row as tokens. A row the checks left out says so instead."""
    model = str(values.get("base_model") or "").rstrip("/").rpartition("/")[2]
    view, error = attempt(studio.model_process.token_view, dataset_id, row, values)
    if error:
        return markup.error_card(error)
    return token_view.token_card(view, row, model, _packed(feed, dataset_id, row, values))


def _packed(feed: LengthFeed | None, dataset_id: str, row: int, values: dict) -> str:
    """Where the row lies when rows are packed, once their lengths are counted."""
    lengths = feed.known(dataset_id, values) if feed and values.get("packing") else None
    limit = values.get("max_length")
    if lengths is None or not isinstance(limit, int | float) or limit < 1:
        return ""
    packed = packed_with(lengths, row, int(limit))
    return pack_strip(packed, row) if packed else ""
