"""The Data tab: load data, see its format and problems, and what will be learned.

Builds the components; events are wired once the recipe's form exists.
"""

from dataclasses import dataclass

import gradio as gr

from sft_ui.context import Studio
from sft_ui.data.held_out import HeldOutChoice, build_held_out
from sft_ui.data.lengths.chart import build_length_chart
from sft_ui.data.lengths.feed import LengthFeed
from sft_ui.data.reading.readings import (
    OFFER_SCRIPT,
    ReadAgain,
    Readings,
    build_read_again,
    build_reading_card,
)
from sft_ui.data.reading.sources import Sources, build_sources
from sft_ui.data.report import report
from sft_ui.data.rows import table
from sft_ui.data.rows import tokens as token_view
from sft_ui.theme import static_text


@dataclass(frozen=True)
class Rows:
    """The row browser."""

    search: gr.Textbox
    filter: gr.Dropdown
    sort: gr.Dropdown
    go_to: gr.Textbox
    preview: gr.HTML
    back: gr.Button
    on: gr.Button
    line: gr.HTML
    card: gr.HTML
    changes_bar: gr.HTML
    start: gr.State
    row: gr.State
    changes: gr.BrowserState


@dataclass(frozen=True)
class Mapper:
    """The column roles: everything but the pickers, which are in the table header."""

    box: gr.Accordion
    roles: gr.State
    choice: gr.HTML
    system_prompt: gr.Textbox
    preview: gr.HTML
    apply: gr.Button


@dataclass(frozen=True)
class Ready:
    """What is ready for training, and the buttons that lead on to the Model tab."""

    bar: gr.Row
    said: gr.HTML
    end: gr.Row
    go_on: tuple[gr.Button, gr.Button]


@dataclass(frozen=True)
class DataTab:
    """What the page needs of the tab."""

    readings: Readings
    feed: LengthFeed
    dataset_id: gr.State
    shown: gr.State  # the id of the dataset the page shows at the moment
    share: gr.State  # [held-out share, seed] of the recipe
    sources: Sources
    again: ReadAgain
    notice: gr.HTML
    reading: gr.HTML
    ready: Ready
    report: gr.HTML
    stored_box: gr.Accordion
    stored: gr.HTML
    browser: gr.Column
    mapper: Mapper
    lengths: gr.HTML
    statistics: gr.HTML
    rows: Rows
    tokens: gr.HTML
    held_out: HeldOutChoice


def build_data_tab(studio: Studio) -> DataTab:
    """Build the tab, without its events."""
    readings, feed = Readings(studio.home), LengthFeed(studio)
    dataset_id, shown, share = gr.State(""), gr.State(""), gr.State([0.0, 0])
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=300):
            sources = build_sources()
            again = build_read_again()
            with gr.Accordion("Stored datasets: open, delete, mix", open=False) as stored_box:
                stored = gr.HTML(
                    elem_id="stored-datasets", js_on_load=static_text("data/dataset_list.js")
                )
        with gr.Column(scale=8, min_width=340):
            notice = gr.HTML(elem_id="data-notice", js_on_load=OFFER_SCRIPT)
            reading = build_reading_card(readings)
            with gr.Row(visible=False, elem_id="data-ready") as bar:
                said = gr.HTML(elem_id="data-ready-said")
                top = _build_next("next-to-model")
            shown_report = gr.HTML(
                report(None, 0, 0),
                elem_id="data-report",
                js_on_load=static_text("data/problem_list.js"),
            )
            mapper = _build_mapper()
    with gr.Column(visible=False, elem_id="data-room") as browser:
        rows, tokens = _build_rows()
        lengths = build_length_chart(feed)
        statistics = gr.HTML(elem_id="data-statistics")
        held_out = build_held_out(readings)
    with gr.Row(visible=False, elem_id="data-end") as end:
        ready = Ready(bar, said, end, (top, _build_next("next-to-model-end")))
    return DataTab(
        *(readings, feed, dataset_id, shown, share, sources, again, notice, reading, ready),
        *(shown_report, stored_box, stored, browser, mapper, lengths, statistics, rows, tokens),
        held_out,
    )


def _build_next(elem_id: str) -> gr.Button:
    words = "Next: choose a model →"
    return gr.Button(words, variant="primary", min_width=210, scale=0, elem_id=elem_id)


def _build_mapper() -> Mapper:
    with gr.Accordion("Column roles", open=False, visible=False, elem_id="column-roles") as box:
        choice = gr.HTML(
            elem_id="column-choice", js_on_load=static_text("data/reading/column_choice.js")
        )
        preview = gr.HTML(elem_id="mapping-preview")
        system_prompt = gr.Textbox(
            label="System prompt for all rows",
            info="Added to rows without a system prompt of their own. Optional.",
            lines=1,
            max_lines=8,
            elem_id="data-system-prompt",
        )
        apply = gr.Button("Use these columns", variant="primary", elem_id="apply-columns")
    return Mapper(box, gr.State(None), choice, system_prompt, preview, apply)


def _build_rows() -> tuple[Rows, gr.HTML]:
    start, row = gr.State(0), gr.State(None)
    changes = gr.BrowserState(None, storage_key="sft-studio-changes", secret="sft-studio")
    search, shown, sort, go_to = _build_finders()
    bar = gr.HTML(elem_id="data-changes", js_on_load=static_text("data/rows/row_card.js"))
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=340):
            preview = gr.HTML(elem_id="data-preview", js_on_load=table.SCRIPT)
            with gr.Row(equal_height=True, elem_id="rows-turn"):
                back = gr.Button("← Back", size="sm", min_width=80, elem_id="rows-back")
                line = gr.HTML(elem_id="rows-line")
                on = gr.Button("Next →", size="sm", min_width=80, elem_id="rows-next")
        with gr.Column(scale=5, min_width=340):
            tokens = gr.HTML(token_view.hint(), elem_id="token-view")
            card = gr.HTML(elem_id="row-card", js_on_load=static_text("data/rows/row_card.js"))
    rows = Rows(search, shown, sort, go_to, preview, back, on, line, card, bar, start, row, changes)
    return rows, tokens


def _build_finders() -> tuple[gr.Textbox, gr.Dropdown, gr.Dropdown, gr.Textbox]:
    with gr.Row(equal_height=True):
        search = gr.Textbox(
            label="Search rows",
            placeholder="Any text",
            scale=4,
            min_width=180,
            elem_id="row-search",
        )
        shown = gr.Dropdown(
            [("All rows", table.ALL)],
            value=table.ALL,
            label="Show",
            scale=4,
            min_width=180,
            elem_id="row-filter",
        )
        sort = gr.Dropdown(
            table.SORTS, value="row", label="Order", scale=3, min_width=150, elem_id="row-sort"
        )
        go_to = gr.Textbox(
            label="Go to row", placeholder="Number", scale=2, min_width=100, elem_id="row-go-to"
        )
    return search, shown, sort, go_to
