"""Events of the row browser: pages, search, jumps, the chosen row and its tokens.

Handlers take ids and plain data; the HTML comes from the row views.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import gradio as gr
from markupsafe import Markup

from sft_ui import markup
from sft_ui.alerts import show_user_errors
from sft_ui.context import IN_TURN, PRIVATE, QUICK, Options, Studio
from sft_ui.data.lengths.feed import LengthFeed
from sft_ui.data.rows import table as row_table
from sft_ui.data.rows import tokens as token_view
from sft_ui.data.rows.card import Changes, changes_bar, read_changes, row_card
from sft_ui.data.rows.tokens import pack_strip, packed_with
from sft_ui.data.tab import DataTab
from sft_ui.recipe_form import Fields, edits
from sft_ui.token_card import fetching_card, token_card
from trainer_backend.data.store import open_dataset
from trainer_backend.errors import UserError

# On a narrow screen the tokens are below the table: scroll to them.
SHOW_TOKENS = """() => {
  if (innerWidth < 720) document.querySelector('#token-view')?.scrollIntoView({ block: 'start' });
}"""
SHOW_ROWS = "() => document.querySelector('#row-search')?.scrollIntoView({ block: 'start' })"
# The table is drawn after the event: wait for the marked row.
SHOW_ROW = """() => {
  let tries = 20;
  const look = () => {
    const row = document.querySelector('#data-preview tr.chosen');
    if (row) row.scrollIntoView({ block: 'center' });
    else if (tries--) setTimeout(look, 50);
  };
  setTimeout(look, 50);
}"""
# The settings that the tokens of a row depend on.
TOKEN_FIELDS = (
    *("base_model", "max_length", "assistant_only_loss", "system_prompt", "chat_template"),
    *("thinking", "eos_token", "control_tokens"),
)


def wire_rows(studio: Studio, tab: DataTab, given: Options, fields: Fields) -> None:
    """Wire the search, the table, the card of a row and its tokens.

    `given` are the inputs of handlers that need the recipe: dataset id and form fields.
    """
    _wire_pages(studio, tab)
    _wire_jumps(studio, tab, given)
    _wire_pick(studio, tab, given, fields)


def _wire_pages(studio: Studio, tab: DataTab) -> None:
    rows = tab.rows
    shown = [rows.preview, rows.line, rows.start]
    find = [rows.search, rows.filter, rows.sort, tab.share]
    asked = [tab.dataset_id, rows.start, rows.changes, tab.mapper.roles, rows.row, *find]

    def turn(step: int | None) -> Callable[..., Any]:
        @show_user_errors
        def turned(
            dataset_id: str, start: int, kept: Any, roles: Any, row: int | None, *found: Any
        ) -> tuple[Any, ...]:
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
    def changed(
        dataset_id: str, start: int, kept: Any, roles: Any, row: int | None, *found: Any
    ) -> list[Any]:
        changes = read_changes(kept, dataset_id)
        page = show_page(studio, dataset_id, start, view_of(*found), changes, roles=roles, row=row)
        return [*page, changes_bar(changes), shown_row(studio, dataset_id, row, changes)]

    rows.changes.change(changed, asked, [*shown, rows.changes_bar, rows.card], **QUICK)


def _wire_jumps(studio: Studio, tab: DataTab, recipe: Options) -> None:
    """Jump to a row, which is marked and opened."""
    rows = tab.rows
    cleared = [rows.preview, rows.line, rows.start, rows.search, rows.filter, rows.sort]
    opened = [*cleared, rows.row, rows.card]
    given = [tab.dataset_id, rows.changes, tab.mapper.roles, tab.share]

    def jump_to(dataset_id: str, kept: Any, roles: Any, share: Any, number: int) -> list[Any]:
        dataset = open_dataset(studio.home, dataset_id)
        view, changes = view_of("", row_table.ALL, "row", share), read_changes(kept, dataset_id)
        start = row_table.start_of(dataset, number, view)
        if start is None:
            fix = "Enter a row number from the first column of the table."
            raise UserError(f"There is no row {number:,}.", dataset.name, fix)
        page = show_page(studio, dataset_id, start, view, changes, roles=roles, row=number)
        card = shown_row(studio, dataset_id, number, changes)
        return [*page, "", row_table.ALL, "row", number, card]

    @show_user_errors
    def go(dataset_id: str, kept: Any, roles: Any, share: Any, text: str) -> list[Any]:
        number = str(text or "").replace(",", "").strip()
        if not number:
            return [gr.skip()] * len(opened)
        if not number.isdecimal():
            fix = "Enter a row number from the first column of the table."
            raise UserError(f"“{number[:40]}” is not a row number.", "Go to row", fix)
        return jump_to(dataset_id, kept, roles, share, int(number))

    @show_user_errors
    def jump(event: gr.EventData, dataset_id: str, kept: Any, roles: Any, share: Any) -> list[Any]:
        return jump_to(dataset_id, kept, roles, share, int(event.row))

    def tokens(dataset_id: str, row: int | None, **values: Any) -> Iterator[Markup | str]:
        if row:
            yield from show_tokens(studio, dataset_id, row, values, tab.feed)

    asked = {**recipe, "row": rows.row}
    for event, handler, inputs in (
        (rows.go_to.submit, go, [*given, rows.go_to]),
        (tab.report.jump, jump, given),
    ):
        done = event(handler, inputs, opened, **QUICK)
        done.then(None, None, None, js=SHOW_ROW, **PRIVATE)
        done.success(tokens, inputs_kwargs=asked, outputs=tab.tokens, **PRIVATE)
    _wire_filters(studio, tab, given, cleared)


def _wire_filters(
    studio: Studio,
    tab: DataTab,
    given: Sequence[gr.blocks.Block],
    cleared: Sequence[gr.blocks.Block],
) -> None:
    """Show the rows of one finding, over a limit, or held out."""

    def only(show: str) -> Callable[..., Any]:
        @show_user_errors
        def shown_only(
            event: gr.EventData, dataset_id: str, kept: Any, roles: Any, share: Any
        ) -> list[Any]:
            which = show or str(int(event.problem))
            view = view_of("", which, "row", share)
            changes = read_changes(kept, dataset_id)
            return [*show_page(studio, dataset_id, 0, view, changes, roles=roles), "", which, "row"]

        return shown_only

    @show_user_errors
    def over_limit(
        event: gr.EventData, dataset_id: str, kept: Any, roles: Any, share: Any
    ) -> list[Any]:
        dataset = open_dataset(studio.home, dataset_id)
        which = row_table.count_filter(str(event.count), str(event.code), int(event.limit))
        page = show_page(studio, dataset_id, 0, view_of("", which, "row", share), roles=roles)
        words = f"Rows affected by the limit of {int(event.limit):,} tokens"
        choices = [*row_table.filter_choices(dataset.problems), (words, which)]
        return [*page, "", gr.update(choices=choices, value=which), "row"]

    for event, handler in (
        (tab.report.rows, only("")),
        (tab.lengths.rows, over_limit),
        (tab.held_out.show.click, only(row_table.HELD_OUT)),
    ):
        done = event(handler, given, cleared, **QUICK)
        done.then(None, None, None, js=SHOW_ROWS, **PRIVATE)


def view_of(query: str | None, show: str, sort: str, share: object) -> row_table.View:
    """The view that the search, filter and order components describe."""
    fraction, seed = share if isinstance(share, list) and len(share) == 2 else (0.0, 0)
    return row_table.View(query or "", str(show), str(sort), float(fraction), int(seed))


def show_page(  # noqa: PLR0913 - everything a page of rows depends on
    studio: Studio,
    dataset_id: str,
    start: int,
    view: row_table.View,
    changes: Changes | None = None,
    *,
    roles: Mapping[str, str] | None = None,
    row: int | None = None,
) -> tuple[Markup | str, Markup | str, int]:
    """One page of rows: (table, position line, start); `row` is the chosen row."""
    if not dataset_id:
        return "", "", 0
    dataset = open_dataset(studio.home, dataset_id)
    rows, total, start = row_table.page(dataset, start, view)
    where = row_table.page_line(start, len(rows), total, dataset.num_rows)
    table = row_table.rows_table(dataset, rows, row, roles, changes, view.query)
    return table, markup.line(where, "quiet"), start


def _wire_pick(studio: Studio, tab: DataTab, given: Options, fields: Fields) -> None:
    rows = tab.rows

    @show_user_errors
    def card(event: gr.EventData, dataset_id: str, kept: Any) -> tuple[int, Markup | str]:
        row = picked_row(event)
        return row, shown_row(studio, dataset_id, row, read_changes(kept, dataset_id))

    def tokens(event: gr.EventData, dataset_id: str, **values: Any) -> Iterator[Markup | str]:
        yield from show_tokens(studio, dataset_id, picked_row(event), values, tab.feed)

    given_card = [tab.dataset_id, rows.changes]
    rows.preview.pick(card, given_card, [rows.row, rows.card], **IN_TURN, **QUICK)
    picked = rows.preview.pick(
        tokens, inputs_kwargs=given, outputs=tab.tokens, concurrency_limit=4, **PRIVATE
    )
    picked.then(None, None, None, js=SHOW_TOKENS, **PRIVATE)
    changed = edits(fields[name] for name in TOKEN_FIELDS)
    gr.on(changed, token_view.hint, None, tab.tokens, **QUICK)


def picked_row(event: gr.EventData) -> int:
    """The row number of a pick event; 0 if it is not one."""
    return int(event.id) if str(event.id).isdecimal() else 0


def shown_row(studio: Studio, dataset_id: str, row: int | None, changes: Changes) -> Markup | str:
    """The card of one row; "" if there is no such row."""
    if not dataset_id or not row:
        return ""
    dataset = open_dataset(studio.home, dataset_id)
    place = dataset.place_of(row)
    found = dataset.page(place, 1)[0] if place is not None else []
    return row_card(dataset, row, found[0][1], changes) if found else ""


def show_tokens(
    studio: Studio, dataset_id: str, row: int, values: dict, feed: LengthFeed | None = None
) -> Iterator[Markup | str]:
    """One row as tokens, or the reason why it has none; before it how far its download is."""
    model = str(values.get("base_model") or "").rstrip("/").rpartition("/")[2]
    packed = _packed(feed, dataset_id, row, values)
    try:
        with closing(studio.model_process.token_view_steps(dataset_id, row, values)) as steps:
            for step in steps:
                if "fetching" in step:
                    yield fetching_card(step["fetching"])
                else:
                    yield token_card(step, row, model, packed)
    except UserError as error:
        yield markup.error_card(error)


def _packed(feed: LengthFeed | None, dataset_id: str, row: int, values: dict) -> Markup | str:
    """The packed sequence of a row, if packing is on and the lengths have been counted."""
    lengths = feed.known(dataset_id, values) if feed and values.get("packing") else None
    limit = values.get("max_length")
    if lengths is None or not isinstance(limit, int | float) or limit < 1:
        return ""
    packed = packed_with(lengths, row, int(limit))
    return pack_strip(packed, row) if packed else ""
